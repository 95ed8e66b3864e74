import { accessTokens, type Clock } from '@portcullis/guard';
import { deskServices, logFile } from './desk.ts';
import { guessTurns } from './domain/guess/guess-turns.ts';
import { guessPlaces } from './domain/guess/guess-places.ts';
import { sprayWatch } from './domain/guess/spraying.ts';
import { keyRing } from './domain/key/key-ring.ts';
import { csrfTokens } from './domain/session/csrf-tokens.ts';
import { accessTokenMint } from './domain/token/access-token.ts';
import { deviceTokens } from './domain/token/device-token.ts';
import { refreshTokens } from './domain/token/refresh-token.ts';
import type { Services } from './flows/services.ts';
import { ownFolder } from './lib/files.ts';
import { hashPool, type HashPool } from './lib/hash-pool.ts';
import { macs, type Secrets } from './lib/seal.ts';
import { type SecurityLog, securityLog } from './lib/security-log.ts';
import { serverLog } from './lib/server-log.ts';
import { type Traffic, traffic } from './lib/traffic.ts';
import { openSet } from './mistake.ts';
import { openSharedRedis, type SharedRedis, shareRevocations } from './open-redis.ts';
import { firstOf, openStoreAt, tablesOfStore } from './open-database.ts';
import type { Settings } from './settings/table.ts';
import type { SharedRevocations } from './storage/redis/shared-revocations.ts';
import type { SqlStore } from './storage/sql/sql-store.ts';

/** The store of a data folder and all that a server does with it. */
export type House = {
  readonly services: Services;
  /** Reads access tokens, and remembers those that it has minted. */
  readonly tokens: ReturnType<typeof accessTokens>;
  readonly store: SqlStore;
  readonly securityLog: SecurityLog;
  readonly hashes: HashPool;
  readonly traffic: Traffic;
  /** Where instances share a Redis. */
  readonly shared: { readonly redis: SharedRedis; readonly revocations: SharedRevocations } | undefined;
  close(): Promise<void>;
};

export type HouseOptions = {
  readonly settings: Settings;
  readonly issuer: string;
  /** The master secret, and behind it the one of before. */
  readonly secrets: Secrets;
  readonly clock: Clock;
};

/** Opens what is there, or makes it, and brings its tables up to date. @throws {Mistake} or what the system says, when a file cannot be opened. */
export async function openHouse({ settings, issuer, secrets, clock }: HouseOptions): Promise<House> {
  await using held = new AsyncDisposableStack();
  ownFolder(settings.dataDir);
  const log = openSet('PORTCULLIS_LOG_FILE', logFile(settings), () => securityLog({ file: logFile(settings), clock }));
  held.defer(() => log.close());
  const store = await openStoreAt(settings);
  held.defer(store.close);
  await tablesOfStore(settings, store);
  await firstOf(settings, store.migrate());
  const redis = await openSharedRedis(settings, store, (isUp, why) => {
    if (isUp) serverLog.info('Redis is there: limits are shared');
    else serverLog.error({ why }, 'Redis is away: each instance counts its share of every limit');
  });
  if (redis) held.defer(redis.link.close);
  const hashes = hashPool({ sharers: settings.workers });
  held.defer(hashes.close);

  const ring = keyRing({ keys: store.keys, clock, secrets });
  const marks = macs(secrets, 'access-token-mark');
  const tokens = accessTokens({
    issuer,
    audience: settings.audience,
    keys: ring,
    clock,
    ...(redis && { mark: (token) => marks.of(token).toString('base64url') }),
  });
  let revocations: SharedRevocations | undefined;
  const services: Services = {
    ...deskServices({
      store,
      clock,
      settings,
      log: () => log,
      passwords: hashes,
      onChanged: ring.load,
      ...(redis && {
        share: (asked) => (revocations = shareRevocations(redis, { store, clock, accessTokenTtlMs: settings.accessTokenTtlMs })(asked)),
      }),
    }),
    refreshTokens: refreshTokens(secrets),
    csrfTokens: csrfTokens(secrets),
    accessTokens: accessTokenMint({
      keyRing: ring,
      clock,
      issuer,
      audience: settings.audience,
      ttlMs: settings.accessTokenTtlMs,
      onMinted(token, sessionId) {
        tokens.remember(token);
        // Where Redis does not hear of it, the others check its signature.
        redis?.ledger.mark(sessionId, marks.of(token).toString('base64url'), settings.accessTokenTtlMs).catch(() => {});
      },
    }),
    keyRing: ring,
    guessPlaces: guessPlaces(secrets[0]),
    guessTurns: guessTurns(),
    deviceTokens: deviceTokens(secrets),
    sprayWatch: sprayWatch({ clock }),
    lifetimes: settings,
  };
  const everything = held.move();
  const shared = redis && revocations && { redis, revocations };
  return { services, tokens, store, securityLog: log, hashes, traffic: traffic(), shared, close: () => everything.disposeAsync() };
}
