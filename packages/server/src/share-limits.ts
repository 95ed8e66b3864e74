import type { Clock, Counters } from '@portcullis/guard';
import type { SharedRedis } from './open-redis.ts';
import { sharedCounters } from './storage/redis/shared-counters.ts';
import type { SharedRevocations } from './storage/redis/shared-revocations.ts';

/** How limits are counted, and sessions asked for, by all instances together. */
export type SharedLimits = {
  readonly isUp: () => boolean;
  /** Whether sessions are asked of Redis, too. */
  readonly isBelieved: () => boolean;
  /** @param local what counts while Redis is away. */
  over(local: Counters): Counters;
};

export type ShareLimitsOptions = {
  readonly redis: SharedRedis;
  readonly revocations: SharedRevocations;
  /** How many live: each counts its share of a limit while Redis is away. */
  readonly instances: () => number;
  readonly clock: Clock;
};

export const shareLimits = ({ redis: { ledger, link }, revocations, instances, clock }: ShareLimitsOptions): SharedLimits => ({
  isUp: link.isUp,
  isBelieved: revocations.isBelieved,
  over: (local) => sharedCounters({ redis: ledger, revocations, isUp: link.isUp, local, instances, clock }),
});
