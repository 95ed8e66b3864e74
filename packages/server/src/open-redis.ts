import { setTimeout as pause } from 'node:timers/promises';
import type { Clock, RedisLedger } from '@portcullis/guard';
import { ALIVE_MS } from './domain/instance/instance.ts';
import type { AskedSessions } from './domain/session/asked-sessions.ts';
import type { RevokedSessions } from './domain/session/revoked-sessions.ts';
import { newId } from './lib/id.ts';
import { serverLog } from './lib/server-log.ts';
import type { Settings } from './settings/table.ts';
import type { Greeting } from './storage/redis/greet.ts';
import type { RedisLink } from './storage/redis/redis-link.ts';
import { orPending, sharedRevocations, type SharedRevocations, tellEnded } from './storage/redis/shared-revocations.ts';
import type { SqlStore } from './storage/sql/sql-store.ts';

/** The Redis that all instances share, and what the settings say of it. */
export type SharedRedis = {
  readonly link: RedisLink;
  readonly ledger: RedisLedger;
  /** Another number whenever it, or one of its nodes, is another one than before; `undefined` while it is away. */
  readonly run: () => number | undefined;
  /** Asks it again. @throws {Problem} `unavailable` */
  readonly whoIsIt: () => Promise<void>;
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
  // Asked for here: a server without a Redis need not read some 500 files and keep them.
  const [{ reachRedis }, { greet, greetingOf }] = await Promise.all([import('./reach-redis.ts'), import('./storage/redis/greet.ts')]);
  let greetings = new Map<string, Greeting>();
  let run = 0;
  function meet(place: string, greeting: Greeting): void {
    if (greetings.get(place)?.identity !== greeting.identity) run += 1;
    greetings.set(place, greeting);
  }
  const listeners: ((isUp: boolean) => void)[] = [];
  const { link, ledger } = reachRedis(
    { ...settings, redisUrl },
    {
      prefix: `portcullis:${(await store.number()).toString(36)}`,
      greet: async (command, near) => meet(near(''), await greet(command, near)),
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
    async whoIsIt() {
      const there = new Set<string>();
      await link.each(async (command, near) => {
        const place = near('');
        meet(place, greetingOf(String(await command('INFO'))));
        there.add(place);
      });
      greetings = new Map([...greetings].filter(([place]) => there.has(place))); // nodes of a cluster come and go
    },
    mayForget: () => [...greetings.values()].find(({ mayForget }) => mayForget !== undefined)?.mayForget,
    onChange: (listener) => void listeners.push(listener),
  };
}

/** The revocations of a server whose Redis others share. */
export function shareRevocations(
  redis: SharedRedis,
  { store, clock, accessTokenTtlMs }: { store: SqlStore; clock: Clock; accessTokenTtlMs: number },
): (asked: AskedSessions) => SharedRevocations {
  return (asked) => {
    const revocations = sharedRevocations({
      ledger: redis.ledger,
      run: () => (redis.mayForget() === undefined ? redis.run() : undefined),
      whoIsIt: redis.whoIsIt,
      sessions: store.sessions,
      keys: store.keys,
      asked,
      clock,
      accessTokenTtlMs,
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
  const ledger = (): Promise<RedisLedger> => (opened ??= open());

  /** Each instance looks into the database every second, and says there what it has found. */
  async function allGoBy(keysVersion: number): Promise<boolean> {
    for (let tries = 0; tries < 50; tries++) {
      const living = await store.instances.list(clock.now());
      if (living.every((instance) => instance.keysVersion >= keysVersion)) return true;
      await pause(100);
    }
    return false;
  }

  return (asked: AskedSessions): RevokedSessions => ({
    ...asked,
    async add(ended) {
      if (ended.length === 0) return;
      const detail = `The sessions are ended in the database, but Redis has not confirmed it: running instances find it there within a second or two. ${AGAIN}`;
      await orPending(
        ledger().then((redis) => tellEnded(redis, ended, { now: clock.now(), accessTokenTtlMs: settings.accessTokenTtlMs })),
        detail,
      );
    },
    async keysChanged() {
      const version = await store.keys.version();
      const claimed = ledger().then((redis) => redis.claim(newId('instance'), version));
      const detail = `The keys are changed in the database, but Redis has not confirmed it, nor has each instance of the last ${ALIVE_MS / 1_000} seconds. ${AGAIN}`;
      await orPending(
        claimed.then(() => {}),
        detail,
      ).catch(async (pending: unknown) => {
        if (!(await allGoBy(version))) throw pending;
      });
    },
  });
}

const AGAIN = 'Say it again to be sure.';
