import type { Clock, Counters } from '@portcullis/guard';
import { every } from './lib/every.ts';
import { newId } from './lib/id.ts';
import type { SharedRedis } from './open-redis.ts';
import { sharedCounters } from './storage/redis/shared-counters.ts';
import type { SharedRevocations } from './storage/redis/shared-revocations.ts';
import type { SqlStore } from './storage/sql/sql-store.ts';

/** How limits are counted, and sessions asked for, by all instances together. */
export type SharedLimits = {
  readonly isUp: () => boolean;
  /** Whether sessions are asked of Redis, too. */
  readonly isBelieved: () => boolean;
  /** @param local what counts while Redis is away. */
  over(local: Counters): Counters;
};

/** Says in the store that this instance lives, so that each knows its share of a limit while Redis is away. */
export async function shareLimits(
  { redis, revocations, store, clock }: { redis: SharedRedis; revocations: SharedRevocations; store: SqlStore; clock: Clock },
  held: AsyncDisposableStack,
): Promise<SharedLimits> {
  const id = newId('instance');
  let instances = 1;
  const beat = async (): Promise<void> => {
    instances = await store.instances.beat(id, clock.now());
  };
  await beat();
  held.defer(() => store.instances.leave(id).catch(() => {})); // after the last beat: what is deferred last is done first
  every(held, BEAT_MS, beat);
  const { ledger, link } = redis;
  return {
    isUp: link.isUp,
    isBelieved: revocations.isBelieved,
    over: (local) => sharedCounters({ redis: ledger, revocations, isUp: link.isUp, local, instances: () => instances, clock }),
  };
}

/** How soon after its start the others know of an instance. */
const BEAT_MS = 2_000;
