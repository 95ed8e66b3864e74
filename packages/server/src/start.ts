import { systemClock, trustedProxies } from '@portcullis/guard';
import { clientRefusals, makeApp, wireRefusals } from './app.ts';
import { type CertificateFiles, readCertificate } from './certificate.ts';
import { DEMO_USER, demoCertificate, isDemoStore, traceOfUser, tracesOfDemo } from './demo.ts';
import { logFile } from './desk.ts';
import { addDemoUser } from './flows/add-user.ts';
import { clearSeals, keepHouse } from './flows/keep-house.ts';
import { ensureSigningKey, rotateWhenDue } from './flows/keep-keys.ts';
import { heartbeat } from './heartbeat.ts';
import { openHouse } from './house.ts';
import type { Server } from './http/server.ts';
import { IN_FLIGHT_MS, makeWire } from './http/wire.ts';
import { type CertificateKeeper, keepCertificate } from './keep-certificate.ts';
import { every } from './lib/every.ts';
import { holdFreePort } from './lib/free-port.ts';
import { ownFolder, readText } from './lib/files.ts';
import type { SecurityLog } from './lib/security-log.ts';
import { isInClear as isRedisInClear } from './lib/redis-url.ts';
import { serverLog } from './lib/server-log.ts';
import { masterSecrets, openKeys } from './master-secrets.ts';
import { Mistake, mistakesOf, openDatabase, openPort, openSet } from './mistake.ts';
import { isNewStore, storeFile, storeName } from './open-database.ts';
import { listenForOperators, operatorPages, storeWatch } from './operator-pages.ts';
import { type Origins, readSettings, type Sources } from './settings/read.ts';
import type { Settings } from './settings/table.ts';
import type { Running } from './running.ts';
import { shareLimits } from './share-limits.ts';
import { clockOfStore } from './steer-clock.ts';
import { lockForServer } from './storage/sql/server-lock.ts';
import { takeTurns } from './take-turns.ts';
import { startWorkers } from './workers.ts';

/** Settings come from `env`, and from `flags` where one has them; files are read from the disk unless told otherwise. */
export type StartOptions = Pick<Sources, 'env'> &
  Partial<Pick<Sources, 'flags' | 'readFile'>> & {
    readonly mode: 'dev' | 'serve';
    /** Routes of your own, behind the same gates: `app.get(path, { config: { access: signedIn() } }, handler)`. */
    readonly routes?: (app: Server) => void | Promise<void>;
    /** This process is one of several that serve on this port; another one has started it, and listens for operators. */
    readonly worker?: { readonly port: number };
  };

/**
 * Starts a server from its settings, as `portcullis dev` and `portcullis serve` do. Nothing is half-started: either it
 * listens, or `mistakes` says in one line each what is in the way, and nothing is left open. With `WORKERS` above 1 other
 * processes serve, and this one looks after them.
 */
export async function start(
  options: StartOptions,
): Promise<Running | { readonly mistakes: readonly string[]; readonly notes: readonly string[] }> {
  const { mode, env, flags = {}, readFile = readText } = options;
  const reading = readSettings({ mode, env, flags, readFile });
  if ('mistakes' in reading) {
    return { mistakes: [...reading.mistakes, ...(await moreMistakes(mode, reading.known))], notes: reading.notes };
  }
  const { origins, notes } = reading;
  const settings = options.worker ? shareOf(reading.settings) : reading.settings;
  const mistakes = await moreMistakes(mode, settings);
  if (mistakes.length) return { mistakes, notes };

  await using held = new AsyncDisposableStack();
  try {
    if (settings.workers > 1 && !options.worker) {
      if (options.routes || readFile !== readText) throw new Mistake(NOT_THEIRS);
      const running = await startWorkers({ env, flags }, settings);
      return { ...running, notes: [...notes, ...running.notes] };
    }
    const running = await open(settings, origins, options, held);
    const everything = held.move();
    let ending: Promise<void> | undefined;
    return {
      ...running,
      settings,
      notes: [...notes, ...running.notes],
      stop: () => (ending ??= running.end().then(() => everything.disposeAsync())),
    };
  } catch (error) {
    const mistakes = mistakesOf(error);
    if (!mistakes) throw error;
    return { mistakes, notes };
  }
}

/** What one of several workers may hold of what is meant for the machine. */
const shareOf = (settings: Settings): Settings => ({
  ...settings,
  maxConnections: Math.ceil(settings.maxConnections / settings.workers),
  maxConnectionsPerAddress: Math.ceil(settings.maxConnectionsPerAddress / settings.workers),
});

const NOT_THEIRS =
  'PORTCULLIS_WORKERS: workers know nothing of the code of your own: start your program several times instead, each on its own port';

/** Beyond the settings themselves: what is in the files that they name. */
export async function moreMistakes(mode: StartOptions['mode'], known: Partial<Settings>): Promise<string[]> {
  return [...(await readCertificate(known)).check().mistakes, ...(mode === 'serve' ? await tracesOfDemo(known) : [])];
}

/** Opens everything in turn; what is open is `held`, and closed again in the reverse order. */
async function open(settings: Settings, origins: Origins, { mode, routes, worker }: StartOptions, held: AsyncDisposableStack) {
  const { clock, follow } = clockOfStore(
    systemClock((stepMs) => serverLog.warn({ stepMs }, 'the clock was set forward')),
    serverLog,
  );
  const made: Running['made'][number][] = [];
  const file = storeFile(settings);
  const isNew = isNewStore(settings);
  ownFolder(settings.dataDir);
  if (file !== undefined) lockStore(file, held);
  if (mode === 'dev' && file !== undefined && !isNew && !(await isDemoStore(settings.dataDir, file)))
    throw new Mistake(
      `${file} is no demo's, and dev adds a user whose password everyone knows: give dev a folder of its own (PORTCULLIS_DATA_DIR)`,
    );
  const { secrets, made: madeSecret } = masterSecrets(mode, settings);
  if (madeSecret) made.push(madeSecret);
  const chosen = { host: 'PORTCULLIS_HOST', port: 'PORTCULLIS_PORT' };
  // The issuer is in every token and in the OpenAPI document, so it must know the port before anything listens on it.
  const free = settings.port === 0 && settings.issuer === undefined ? await openPort(chosen, () => holdFreePort(settings.host)) : undefined;
  if (free) held.defer(free.release);
  const port = free?.port ?? settings.port;
  const issuer = settings.issuer ?? `https://localhost:${port}`;
  const keeper: CertificateKeeper | undefined = settings.tlsAtProxy
    ? undefined
    : await keepCertificate({ files: await certificateFiles(settings, made), issuer, clock, take: (pem) => wire.setCertificate(pem) });

  const house = await openHouse({ settings, issuer, secrets, clock });
  held.defer(house.close);
  await follow(house.store, held);
  const { services } = house;
  const demoUser = mode === 'serve' ? await services.users.findDemo() : undefined;
  if (demoUser) throw new Mistake(traceOfUser(demoUser)); // also where the store could not be looked at before
  const secretNotes = await openKeys(services, secrets, { mode, settings, origins });
  await ensureSigningKey(services, settings.signingAlg, secrets[0]);
  const isOurTurn = await takeTurns(house.store, clock, held);
  const tendKeys = async (): Promise<void> => {
    if (isOurTurn()) await rotateWhenDue(services, settings.signingAlg, secrets[0], settings.keyRotationMs);
    await services.keyRing.load();
  };
  await tendKeys();
  await services.revoked.load();
  if (mode === 'dev') {
    await addDemoUser(services, DEMO_USER.username, DEMO_USER.password);
    made.push({ what: 'store', where: storeName(settings), how: isNew ? 'new' : 'kept' });
  }

  let draining = false;
  const storeTrouble = storeWatch(house.store.ping);
  /** While Redis is believed, who is signed in goes on without the store: behind a balancer, too. */
  const whyNotReady = async (): Promise<string | undefined> => {
    if (draining) return 'draining';
    return (await storeTrouble()) !== undefined && !house.shared?.revocations.isBelieved() ? 'store' : undefined;
  };
  const isProxy = trustedProxies(settings.trustedProxies);
  const wire = makeWire({
    tls: keeper?.pem ?? 'at-proxy',
    clientAuth: settings.tlsClientAuth,
    clientRefused: clientRefusals(house),
    clock,
    maxConnections: settings.maxConnections,
    maxConnectionsPerAddress: settings.maxConnectionsPerAddress,
    isProxy,
    proxyProtocol: settings.trustedProxyHeader === 'proxy-protocol',
    ipv6Prefix: settings.ipv6Prefix,
    refusal: wireRefusals(house),
  });
  const instances = house.store.time
    ? await heartbeat({ instances: house.store.instances, keyRing: services.keyRing, clock }, held)
    : () => 1;
  const sharedLimits = house.shared && shareLimits({ ...house.shared, instances, clock });
  const { app, limitCounters, tend } = await makeApp({
    settings,
    issuer,
    house,
    readiness: whyNotReady,
    serverFactory: wire.serverFactory,
    sharedLimits,
    ...(routes && { routes }),
  }).catch((error: unknown) => {
    throw routes && isSaid(error) ? new Mistake(`your routes: ${error.message}`) : error;
  });
  held.defer(() => app.close());

  await free?.release();
  const address = await openPort(chosen, () =>
    worker ? wire.listen(settings.host, worker.port, 'shared') : wire.listen(settings.host, port),
  );
  held.defer(() => wire.close(0));
  const inside = { settings, clock, house, wire, keeper, sharedLimits, limitCounters, storeTrouble, whyNotReady };
  const pages = settings.adminListen && (await operatorPages(inside, held));
  const adminAddress = settings.adminListen && pages && !worker ? await listenForOperators(settings.adminListen, pages, held) : undefined;

  every(held, house.shared ? 1_000 : 500, () => services.revoked.look());
  every(held, 5_000, () => isOurTurn() && clearSeals(services));
  every(held, 10_000, () => house.securityLog.flush());
  every(held, 1_000, tend);
  every(held, 1_000, storeTrouble); // for the log, where nobody asks
  every(held, 60_000, tendKeys);
  if (keeper) every(held, 1_000, () => keeper.look());
  every(held, 600_000, () => services.revoked.sweep());
  every(held, 600_000, () => isOurTurn() && keepHouse(services, settings.auditRetentionMs));

  return {
    issuer,
    address,
    adminAddress,
    pages,
    made,
    notes: [...secretNotes, ...(keeper?.notes ?? []), ...(isInClear(settings) ? [IN_CLEAR] : [])],
    hasUsers: (await services.users.list({ limit: 1 })).length > 0,
    files: { store: storeName(settings), securityLog: logFile(settings) },
    lastWords: () => house.securityLog.close(),
    async reload(): Promise<void> {
      const { securityLog, why } = reopen(house.securityLog, logFile(settings));
      const certificate = keeper ? await keeper.look('at once') : 'at the proxy';
      const wrong = [...why, ...(keeper?.status().unusable ?? [])];
      if (wrong.length > 0) serverLog.warn({ securityLog, certificate, why: wrong }, 'not all was reloaded: what was there before stays');
      else serverLog.info({ securityLog, certificate }, 'reloaded');
    },
    async end(): Promise<void> {
      draining = true;
      wire.drain();
      await new Promise((done) => setTimeout(done, settings.shutdownDelayMs));
      await wire.close(IN_FLIGHT_MS);
    },
  };
}

const isInClear = ({ redisUrl }: Settings): boolean => redisUrl !== undefined && isRedisInClear(redisUrl);
const IN_CLEAR =
  'PORTCULLIS_REDIS_URL: its password and who has logged out go over the network in clear: begin it with "rediss", unless nobody else is on that network';

/** Before anything is made or opened: two servers that start at once must not both make a secret. */
function lockStore(database: string, held: AsyncDisposableStack): void {
  if (database === ':memory:') return;
  const unlock = openDatabase(`${database}.lock`, () => lockForServer(database));
  if (!unlock)
    throw new Mistake(
      `another server has the store ${database}, and a store on SQLite belongs to one: stop that one, or give this one a folder of its own (PORTCULLIS_DATA_DIR)`,
    );
  held.defer(unlock);
}

/** An error that someone wrote as a sentence, the guard or Fastify of a route: not one of the language's own, which is a fault in the code. */
const isSaid = (error: unknown): error is Error =>
  error instanceof Error && (error.constructor === Error || ('code' in error && String(error.code).startsWith('FST_')));

/** Where the certificate is, once a demo has made its own. */
async function certificateFiles(settings: Settings, made: Running['made'][number][]): Promise<CertificateFiles> {
  if (settings.tlsCertFile !== undefined) return settings;
  const demo = await demoCertificate(settings.dataDir, systemClock());
  made.push(
    { what: 'certificate authority', where: demo.caFile, how: demo.made },
    { what: 'certificate', where: demo.certFile, how: demo.made },
  );
  return { ...settings, tlsCertFile: demo.certFile, tlsKeyFile: demo.keyFile };
}

/** In words for an operator. */
function reopen(log: SecurityLog, file: string): { readonly securityLog: string; readonly why: readonly string[] } {
  try {
    return { securityLog: openSet('PORTCULLIS_LOG_FILE', file, log.reopen), why: [] };
  } catch (error) {
    return { securityLog: 'not reopened', why: mistakesOf(error) ?? [String(error)] };
  }
}
