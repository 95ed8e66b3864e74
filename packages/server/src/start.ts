import { once } from 'node:events';
import { existsSync } from 'node:fs';
import type { AddressInfo } from 'node:net';
import { systemClock, trustedProxies } from '@portcullis/guard';
import { makeApp, wireRefusals } from './app.ts';
import { certificateMistakes } from './certificate.ts';
import { DEMO_USER, demoCertificate, demoSecret, isDemoStore, secretFile, traceOfUser, tracesOfDemo } from './demo.ts';
import { databaseFile, logFile } from './desk.ts';
import { addDemoUser } from './flows/add-user.ts';
import { clearSeals, keepHouse } from './flows/keep-house.ts';
import { ensureSigningKey, rotateWhenDue } from './flows/keep-keys.ts';
import { previousSecretNote, resealKeys } from './flows/reseal-keys.ts';
import { openHouse } from './house.ts';
import { adminServer, type Detail } from './http/admin.ts';
import type { Server } from './http/server.ts';
import { type Certificate, makeWire } from './http/wire.ts';
import { holdFreePort } from './lib/free-port.ts';
import { ownFolder, readText } from './lib/files.ts';
import type { Secrets } from './lib/seal.ts';
import { serverLog } from './lib/server-log.ts';
import { Mistake, mistakesOf, openDatabase } from './mistake.ts';
import { type Origins, readSettings, type Sources } from './settings/read.ts';
import type { Settings } from './settings/table.ts';
import { lockForServer } from './storage/sql/server-lock.ts';

/** Settings come from `env`, and from `flags` where one has them; files are read from the disk unless told otherwise. */
export type StartOptions = Pick<Sources, 'env'> &
  Partial<Pick<Sources, 'flags' | 'readFile'>> & {
    readonly mode: 'dev' | 'serve';
    /** Routes of your own, behind the same gates: `app.get(path, { config: { access: signedIn() } }, handler)`. */
    readonly routes?: (app: Server) => void | Promise<void>;
  };

export type Running = {
  readonly settings: Settings;
  readonly issuer: string;
  readonly address: AddressInfo;
  /** What a demo made for itself, and where; empty for `serve`. */
  readonly made: readonly { readonly what: string; readonly where: string; readonly how: 'new' | 'kept' | 'renewed' }[];
  readonly notes: readonly string[];
  /** False when nobody can log in yet. */
  readonly hasUsers: boolean;
  /** Where the store is and where the security log goes; `:memory:` and `stdout` are no files. */
  readonly files: { readonly store: string; readonly securityLog: string };
  /** For a process that is about to die of a fault: writes at once what the security log still holds. */
  lastWords(): void;
  /** Ends what is in flight within ten seconds, then everything else. Asked twice, it is the same end. */
  stop(): Promise<void>;
};

const IN_FLIGHT_MS = 10_000;

/**
 * Starts a server from its settings, as `portcullis dev` and `portcullis serve` do. Nothing is half-started: either it
 * listens, or `mistakes` says in one line each what is in the way, and nothing is left open.
 */
export async function start(
  options: StartOptions,
): Promise<Running | { readonly mistakes: readonly string[]; readonly notes: readonly string[] }> {
  const { mode, env, flags = {}, readFile = readText } = options;
  const reading = readSettings({ mode, env, flags, readFile });
  if ('mistakes' in reading) {
    return { mistakes: [...reading.mistakes, ...(await moreMistakes(mode, reading.known))], notes: reading.notes };
  }
  const { settings, origins, notes } = reading;
  const mistakes = await moreMistakes(mode, settings);
  if (mistakes.length) return { mistakes, notes };

  await using held = new AsyncDisposableStack();
  try {
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

/** Beyond the settings themselves: what is in the files that they name. */
async function moreMistakes(mode: StartOptions['mode'], known: Partial<Settings>): Promise<string[]> {
  return [...certificateMistakes(known), ...(mode === 'serve' ? await tracesOfDemo(known) : [])];
}

/** Opens everything in turn; what is open is `held`, and closed again in the reverse order. */
async function open(settings: Settings, origins: Origins, { mode, routes }: StartOptions, held: AsyncDisposableStack) {
  const clock = systemClock((stepMs) => serverLog.warn({ stepMs }, 'the clock was set forward'));
  const made: Running['made'][number][] = [];
  const database = databaseFile(settings);
  const isNew = !existsSync(database);
  lockStore(settings.dataDir, database, held);
  if (mode === 'dev' && !isNew && !(await isDemoStore(settings.dataDir, database)))
    throw new Mistake(
      `${database} is no demo's, and dev adds a user whose password everyone knows: give dev a folder of its own (PORTCULLIS_DATA_DIR)`,
    );
  // Made under a secret of one's own too: it marks the folder as a demo's.
  const ownSecret = mode === 'dev' ? demoMasterSecret(settings, made) : undefined;
  const secret = settings.masterSecret ?? ownSecret;
  if (secret === undefined) throw new Error('serve without a secret'); // the settings demand one
  const secrets = secretsOf(secret, settings);
  // The issuer is in every token and in the OpenAPI document, so it must know the port before anything listens on it.
  const free = settings.port === 0 && settings.issuer === undefined ? await holdFreePort(settings.host) : undefined;
  if (free) held.defer(free.release);
  const port = free?.port ?? settings.port;
  const issuer = settings.issuer ?? `https://localhost:${port}`;
  const tls = settings.tlsAtProxy ? 'at-proxy' : await certificate(settings, made);

  const house = await openHouse({ settings, issuer, secrets, clock });
  held.defer(house.close);
  const { services } = house;
  const demoUser = mode === 'serve' ? await services.users.findDemo() : undefined;
  if (demoUser) throw new Mistake(traceOfUser(demoUser)); // also where the store could not be looked at before
  await services.keyRing.load().catch((error: Error) => {
    const others =
      secrets.length > 1
        ? ', and neither is PORTCULLIS_MASTER_SECRET_PREVIOUS'
        : '; if it was changed, PORTCULLIS_MASTER_SECRET_PREVIOUS_FILE names the one of before';
    const own = mode === 'dev' && settings.masterSecret !== undefined ? '; leave it out, and dev uses its own' : '';
    throw new Mistake(`${secretOrigin(origins, settings)}: ${error.message}${others}${own}`);
  });
  const resealed = await resealKeys(services, secrets);
  const secretNotes = secrets.length > 1 ? [await previousSecretNote(services, resealed)] : [];
  await ensureSigningKey(services, settings.signingAlg, secret);
  const tendKeys = async (): Promise<void> => {
    await rotateWhenDue(services, settings.signingAlg, secret, settings.keyRotationMs);
    await services.keyRing.load();
  };
  await tendKeys();
  await services.revoked.load();
  if (mode === 'dev') {
    await addDemoUser(services, DEMO_USER.username, DEMO_USER.password);
    made.push({ what: 'store', where: database, how: isNew ? 'new' : 'kept' });
  }

  let draining = false;
  const whyNotReady = async (): Promise<string | undefined> =>
    draining
      ? 'draining'
      : house.store.ping().then(
          () => undefined,
          () => 'store',
        );
  const isProxy = trustedProxies(settings.trustedProxies);
  const wire = makeWire({
    tls,
    clock,
    maxConnections: settings.maxConnections,
    maxConnectionsPerAddress: settings.maxConnectionsPerAddress,
    isProxy,
    refusal: wireRefusals(house.securityLog),
  });
  const { app, tend } = await makeApp({
    settings,
    issuer,
    house,
    readiness: whyNotReady,
    serverFactory: wire.serverFactory,
    ...(routes && { routes }),
  }).catch((error: unknown) => {
    throw routes && isSaid(error) ? new Mistake(`your routes: ${error.message}`) : error;
  });
  held.defer(() => app.close());

  await free?.release();
  const address = await wire.listen(settings.host, port);
  held.defer(() => wire.close(0));
  if (settings.adminListen) await listenForOperators(settings.adminListen, detail, held);

  const startedAt = clock.now();
  every(held, 500, () => services.revoked.look());
  every(held, 5_000, () => clearSeals(services));
  every(held, 10_000, () => house.securityLog.flush());
  every(held, 1_000, tend);
  every(held, 60_000, tendKeys);
  every(held, 600_000, () => keepHouse(services, settings.auditRetentionMs));

  return {
    issuer,
    address,
    made,
    notes: secretNotes,
    hasUsers: (await services.users.list({ limit: 1 })).length > 0,
    files: { store: database, securityLog: logFile(settings) },
    lastWords: () => house.securityLog.close(),
    async end(): Promise<void> {
      draining = true;
      wire.drain();
      await new Promise((done) => setTimeout(done, settings.shutdownDelayMs));
      await wire.close(IN_FLIGHT_MS);
    },
  };

  async function detail(): Promise<Detail> {
    const why = await whyNotReady();
    return {
      ready: why === undefined,
      ...(why !== undefined && { why }),
      upS: Math.floor((clock.now() - startedAt) / 1_000),
      connections: wire.connections(),
      hashesWaiting: house.hashes.waiting(),
      revokedSessions: services.revoked.size(),
    };
  }
}

/** Before anything is made or opened: two servers that start at once must not both make a secret. */
function lockStore(dataDir: string, database: string, held: AsyncDisposableStack): void {
  ownFolder(dataDir);
  if (database === ':memory:') return;
  const file = `${database}.lock`;
  const unlock = openDatabase(file, () => lockForServer(database));
  if (!unlock)
    throw new Mistake(
      `another server has the store ${database}, and a store on SQLite belongs to one: stop that one, or give this one a folder of its own (PORTCULLIS_DATA_DIR)`,
    );
  held.defer(unlock);
}

function demoMasterSecret({ dataDir, masterSecret }: Settings, made: Running['made'][number][]): string {
  const { secret, file, how } = demoSecret(dataDir);
  if (masterSecret === undefined) made.push({ what: 'master secret', where: file, how });
  return secret;
}

/** Also where the demo's own is the current one, the one of before is another. */
function secretsOf(current: string, { masterSecretPrevious: previous }: Settings): Secrets {
  if (previous === current)
    throw new Mistake('PORTCULLIS_MASTER_SECRET_PREVIOUS: this is the current one: put the one of before here, or leave it out');
  return previous === undefined ? [current] : [current, previous];
}

/** Which secret it is that does not fit, and where it came from. */
function secretOrigin({ masterSecret: origin }: Origins, { dataDir }: Settings): string {
  return origin === undefined
    ? `the secret in ${secretFile(dataDir)}`
    : `PORTCULLIS_MASTER_SECRET${origin === 'environment file' ? '_FILE (environment)' : ` (${origin})`}`;
}

/** An error that someone wrote as a sentence, the guard or Fastify of a route: not one of the language's own, which is a fault in the code. */
const isSaid = (error: unknown): error is Error =>
  error instanceof Error && (error.constructor === Error || ('code' in error && String(error.code).startsWith('FST_')));

async function certificate({ tlsCertFile, tlsKeyFile, dataDir }: Settings, made: Running['made'][number][]): Promise<Certificate> {
  if (tlsCertFile !== undefined && tlsKeyFile !== undefined) return { cert: readText(tlsCertFile), key: readText(tlsKeyFile) };
  const demo = await demoCertificate(dataDir, systemClock());
  made.push(
    { what: 'certificate authority', where: demo.caFile, how: demo.made },
    { what: 'certificate', where: demo.certFile, how: demo.made },
  );
  return { cert: readText(demo.certFile), key: readText(demo.keyFile) };
}

async function listenForOperators(
  listen: NonNullable<Settings['adminListen']>,
  detail: () => Promise<Detail>,
  held: AsyncDisposableStack,
): Promise<void> {
  const server = adminServer(detail);
  server.listen(listen.port, listen.host);
  await once(server, 'listening');
  held.defer(() => {
    server.close();
    server.closeAllConnections();
  });
}

/** Repeats, one run at a time; a run that fails is logged, and the next one tries again. */
function every(held: AsyncDisposableStack, ms: number, act: () => void | Promise<void>): void {
  let running = false;
  const timer = setInterval(() => {
    if (running) return;
    running = true;
    Promise.try(act)
      .catch((error: unknown) => serverLog.error({ err: error }, 'housekeeping'))
      .finally(() => {
        running = false;
      });
  }, ms).unref();
  held.defer(() => clearInterval(timer));
}
