import type { Clock, Counters } from '@portcullis/guard';
import { every } from './lib/every.ts';
import { newId } from './lib/id.ts';
import { serverLog } from './lib/server-log.ts';
import { reachRedis } from './reach-redis.ts';
import type { Settings } from './settings/table.ts';
import { sharedCounters } from './storage/redis/shared-counters.ts';
import type { SqlStore } from './storage/sql/sql-store.ts';

/** How limits are counted by all instances together. */
export type SharedLimits = {
  readonly isUp: () => boolean;
  /** @param local what counts while Redis is away. */
  over(local: Counters): Counters;
};

/**
 * Opens the way to Redis, and says in the store that this instance lives, so that each knows its share of a limit while
 * Redis is away. The link comes up by itself; nothing waits for it.
 */
export async function shareLimits(
  settings: Settings,
  { issuer, store, clock }: { issuer: string; store: SqlStore; clock: Clock },
  held: AsyncDisposableStack,
): Promise<SharedLimits | undefined> {
  const { redisUrl } = settings;
  if (redisUrl === undefined) return undefined;
  const id = newId('instance');
  let instances = 1;
  const beat = async (): Promise<void> => {
    instances = await store.instances.beat(id, clock.now());
  };
  await beat();
  held.defer(() => store.instances.leave(id).catch(() => {})); // after the last beat: what is deferred last is done first
  every(held, BEAT_MS, beat);

  const onChange = (isUp: boolean, why: string): void => {
    if (isUp) return serverLog.info({ instances }, 'Redis is there: limits are shared');
    serverLog.error({ why, instances }, 'Redis is away: each instance counts its share of every limit');
  };
  const { link, ledger } = reachRedis({ ...settings, redisUrl }, { issuer, onChange });
  held.defer(link.close);
  return { isUp: link.isUp, over: (local) => sharedCounters({ redis: ledger, isUp: link.isUp, local, instances: () => instances, clock }) };
}

/** How soon after its start the others know of an instance. */
const BEAT_MS = 2_000;
