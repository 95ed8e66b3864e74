import type { Clock, RedisLedger } from '@portcullis/guard';
import type { AskedSessions } from './domain/session/asked-sessions.ts';
import type { RevokedSessions } from './domain/session/revoked-sessions.ts';
import { newId } from './lib/id.ts';
import { serverLog } from './lib/server-log.ts';
import { reachRedis } from './reach-redis.ts';
import type { Settings } from './settings/table.ts';
import { greet, type Greeting } from './storage/redis/greet.ts';
import type { RedisLink } from './storage/redis/redis-link.ts';
import { orPending, sharedRevocations, type SharedRevocations, tellEnded } from './storage/redis/shared-revocations.ts';
import type { SqlStore } from './storage/sql/sql-store.ts';

/** The Redis that all instances share, and what the settings say of it. */
export type SharedRedis = {
  readonly link: RedisLink;
  readonly ledger: RedisLedger;
  /** Another number whenever it, or one of its nodes, is another one than before; `undefined` while it is away. */
  readonly run: () => number | undefined;
  /** Why it may lose what it is told. */
  readonly mayForget: () => string | undefined;
  /** Told of each change. */
  readonly onChange: (listener: (isUp: boolean) => void) => void;
};

/** Opens the way to Redis, where one is set. The link comes up by itself; nothing waits for it. */
export async function openSharedRedis(
  settings: Settings,
  store: SqlStore,
  told: (isUp: boolean, why: string) => void = () => {},
): Promise<SharedRedis | undefined> {
  const { redisUrl } = settings;
  if (redisUrl === undefined) return undefined;
  const greetings = new Map<string, Greeting>();
  let run = 0;
  const listeners: ((isUp: boolean) => void)[] = [];
  const { link, ledger } = reachRedis(
    { ...settings, redisUrl },
    {
      prefix: `portcullis:${(await store.number()).toString(36)}`,
      async greet(command, near) {
        const greeting = await greet(command, near);
        const place = near('');
        if (greetings.get(place)?.runId !== greeting.runId) run += 1;
        greetings.set(place, greeting);
      },
      onChange(isUp, why) {
        told(isUp, why);
        for (const listener of listeners) listener(isUp);
      },
    },
  );
  return {
    link,
    ledger,
    run: () => (link.isUp() ? run : undefined),
    mayForget: () => [...greetings.values()].find(({ mayForget }) => mayForget !== undefined)?.mayForget,
    onChange: (listener) => void listeners.push(listener),
  };
}

/** The revocations of a server whose Redis others share. */
export function shareRevocations(redis: SharedRedis, store: SqlStore, clock: Clock): (asked: AskedSessions) => SharedRevocations {
  return (asked) => {
    const revocations = sharedRevocations({
      ledger: redis.ledger,
      run: () => (redis.mayForget() === undefined ? redis.run() : undefined),
      sessions: store.sessions,
      asked,
      clock,
      onChange(isBelieved) {
        if (isBelieved) return serverLog.info('sessions are asked of Redis, with the limits');
        const why = redis.mayForget();
        serverLog.warn({ ...(why !== undefined && { why }) }, 'sessions are asked of the database, each time, until Redis can be believed');
      },
    });
    redis.onChange(() => void Promise.try(revocations.look).catch(() => {})); // the next second's look says what is in the way
    return revocations;
  };
}

/** The revocations of a command of an operator: Redis is opened where there is something to tell it. */
export function tellRevocations(settings: Settings, store: SqlStore, clock: Clock, held: AsyncDisposableStack) {
  let opened: Promise<RedisLedger> | undefined;

  async function open(): Promise<RedisLedger> {
    const { promise: firstTold, resolve } = Promise.withResolvers<void>();
    const redis = await openSharedRedis(settings, store, () => resolve());
    if (!redis) throw new Error('no Redis is set');
    held.defer(redis.link.close);
    await firstTold;
    return redis.ledger;
  }
  const tell = (what: string, work: (ledger: RedisLedger) => Promise<void>): Promise<void> =>
    orPending(
      (opened ??= open()).then(work),
      `${what} in the database, but Redis has not confirmed it: running instances find it there within a second or two. Say it again to be sure.`,
    );

  return (asked: AskedSessions): RevokedSessions => ({
    ...asked,
    async add(ended) {
      if (ended.length > 0) await tell('The sessions are ended', (ledger) => tellEnded(ledger, ended, clock.now()));
    },
    keysChanged: () =>
      tell('The key is refused', async (ledger) => {
        await ledger.claim(newId('instance'), await store.sessions.keysVersion());
      }),
  });
}
