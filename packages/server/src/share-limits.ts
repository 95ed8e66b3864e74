import { type Clock, type Counters, redisLedger } from '@portcullis/guard';
import { sha256 } from './lib/seal.ts';
import { serverLog } from './lib/server-log.ts';
import type { Settings } from './settings/table.ts';
import { openRedis } from './storage/redis/redis-link.ts';
import { sharedCounters } from './storage/redis/shared-counters.ts';

/** How limits are counted by all instances together. */
export type SharedLimits = {
  readonly isUp: () => boolean;
  /** @param local what counts while Redis is away. */
  over(local: Counters): Counters;
};

/**
 * Opens the way to Redis. The link comes up by itself; nothing waits for it.
 * @param on.instances how many live: each counts its share of a limit while Redis is away.
 */
export function shareLimits(
  { redisUrl, redisPassword, redisTimeoutMs }: Settings,
  { issuer, instances, clock }: { issuer: string; instances: () => number; clock: Clock },
  held: AsyncDisposableStack,
): SharedLimits | undefined {
  if (redisUrl === undefined) return undefined;
  const link = openRedis({
    url: redisUrl,
    password: redisPassword,
    timeoutMs: redisTimeoutMs,
    greet: refuseReplica,
    onChange(isUp, why) {
      if (isUp) return serverLog.info({ instances: instances() }, 'Redis is there: limits are shared');
      serverLog.error({ why, instances: instances() }, 'Redis is away: each instance counts its share of every limit');
    },
  });
  held.defer(link.close);
  const ledger = redisLedger({ run: link.run, prefix: `portcullis:${sha256(issuer).slice(0, 8)}` });
  return { isUp: link.isUp, over: (local) => sharedCounters({ redis: ledger, isUp: link.isUp, local, instances, clock }) };
}

/** A replica takes no writes, nor does one that is full or broken: limits would not be counted by it. */
async function refuseReplica(command: (...words: readonly string[]) => Promise<unknown>): Promise<void> {
  const role = await command('ROLE');
  if (!Array.isArray(role) || role[0] !== 'master') throw new Error('this is a replica');
  await command('SET', 'portcullis:greeting', '1', 'PX', '1000');
}
