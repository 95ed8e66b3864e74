import { once } from 'node:events';
import { existsSync } from 'node:fs';
import type { AddressInfo } from 'node:net';
import { systemClock, trustedProxies } from '@portcullis/guard';
import { makeApp, wireRefusal } from './app.ts';
import { DEMO_USER, demoCertificate, demoSecret, traceOfUser, tracesOfDemo } from './demo.ts';
import { databaseFile, logFile } from './desk.ts';
import { addDemoUser } from './flows/add-user.ts';
import { clearSeals, keepHouse } from './flows/keep-house.ts';
import { ensureSigningKey } from './flows/keep-keys.ts';
import { openHouse } from './house.ts';
import { adminServer, type Detail } from './http/admin.ts';
import type { Server } from './http/server.ts';
import { type Certificate, makeWire } from './http/wire.ts';
import { ownFolder, readText } from './lib/files.ts';
import { serverLog } from './lib/server-log.ts';
import { Mistake, mistakesOf } from './mistake.ts';
import { readSettings, type Sources } from './settings/read.ts';
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
    const more = mode === 'serve' ? await tracesOfDemo(reading.known) : [];
    return { mistakes: [...reading.mistakes, ...more], notes: reading.notes };
  }
  const { settings, notes } = reading;
  const traces = mode === 'serve' ? await tracesOfDemo(settings) : [];
  if (traces.length) return { mistakes: traces, notes };

  await using held = new AsyncDisposableStack();
  try {
    const running = await open(settings, options, held);
    const everything = held.move();
    let ending: Promise<void> | undefined;
    return { ...running, settings, notes, stop: () => (ending ??= running.end().then(() => everything.disposeAsync())) };
  } catch (error) {
    const mistakes = mistakesOf(error);
    if (!mistakes) throw error;
    return { mistakes, notes };
  }
}

/** Opens everything in turn; what is open is `held`, and closed again in the reverse order. */
async function open(settings: Settings, { mode, routes }: StartOptions, held: AsyncDisposableStack) {
  const clock = systemClock((stepMs) => serverLog.warn({ stepMs }, 'the clock was set forward'));
  const made: Running['made'][number][] = [];
  const database = databaseFile(settings);
  const isNew = !existsSync(database);
  lockStore(settings.dataDir, database, held);
  const secret = settings.masterSecret ?? demoMasterSecret(settings, made);
  const issuer = settings.issuer ?? `https://localhost:${settings.port}`;
  const tls = settings.tlsAtProxy ? 'at-proxy' : await certificate(settings, made);

  const house = await openHouse({ settings, issuer, masterSecret: secret, clock });
  held.defer(house.close);
  const { services } = house;
  const demoUser = mode === 'serve' ? await services.users.findDemo() : undefined;
  if (demoUser) throw new Mistake(traceOfUser(demoUser)); // also where the store could not be looked at before
  await ensureSigningKey(services, settings.signingAlg, secret);
  await services.keyRing.load().catch((error: Error) => {
    throw new Mistake(error.message);
  });
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
    refusal: wireRefusal,
  });
  const { app, keepCounters } = await makeApp({
    settings,
    issuer,
    house,
    readiness: whyNotReady,
    serverFactory: wire.serverFactory,
    ...(routes && { routes }),
  });
  held.defer(() => app.close());

  const address = await wire.listen(settings.host, settings.port);
  held.defer(() => wire.close(0));
  if (settings.adminListen) await listenForOperators(settings.adminListen, detail, held);

  const startedAt = clock.now();
  every(held, 500, () => services.revoked.look());
  every(held, 5_000, () => clearSeals(services));
  every(held, 10_000, () => house.securityLog.flush());
  every(held, 1_000, keepCounters);
  every(held, 600_000, () => keepHouse(services, settings.auditRetentionMs));

  return {
    issuer,
    address,
    made,
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
  const unlock = lockForServer(`${database}.lock`);
  if (!unlock) throw new Mistake(`another server has the store ${database}: a store on SQLite belongs to one`);
  held.defer(unlock);
}

function demoMasterSecret({ dataDir }: Settings, made: Running['made'][number][]): string {
  const { secret, file, how } = demoSecret(dataDir);
  made.push({ what: 'master secret', where: file, how });
  return secret;
}

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
