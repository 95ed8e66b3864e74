import { setTimeout as wait } from 'node:timers/promises';
import { alice, startCluster } from '../support/cluster.ts';
import { until } from '../support/program.ts';
import { startRedis } from '../support/redis.ts';
import { findings, type Scene, type Seen, timed } from './fault.ts';
import { admittedBy, freshAddress, isShared, LIMIT, outageSettings } from './limits.ts';
import { sessionsOf } from './sessions.ts';

/**
 * kill -9 of Redis, which keeps an append-only file, in mid-load under two instances: what was answered holds, ended
 * sessions stay ended meanwhile, limits stay limits, and a moment after it is back all is as before.
 */
export async function killRedis(t: Scene, rounds: number): Promise<Seen> {
  const found = findings();
  const redis = await startRedis({ appendonly: 'yes', appendfsync: 'always' });
  t.after(redis.stop);
  const { one, other } = await startCluster(t, { ...outageSettings, REDIS_URL: redis.url });
  const sessions = sessionsOf(alice, { found });
  await until(() => isShared([one, other]));
  await wait(2_500); // each has heard of the other
  for (let round = 0; round < rounds; round += 1) {
    const load = await sessions.begin([one, other]);
    const from = freshAddress();
    await wait(200 + Math.random() * 200);
    let admitted = await admittedBy([one, other], from, LIMIT + 2, found); // Redis has counted them
    await redis.kill();
    for (let i = 0; i < 3; i += 1, await wait(50)) admitted += await admittedBy([one, other], from, LIMIT, found);
    await redis.start();
    const tookMs = await timed(() => until(() => isShared([one, other])));
    found.most('limits shared again, slowest ms', tookMs);
    admitted += await admittedBy([one, other], from, LIMIT, found);
    // A limit before it went, and while it was away a share of each of the two.
    if (admitted > 2 * LIMIT) found.wrong(`${admitted} of a limit of ${LIMIT} were let in`);
    found.most(`admitted of ${LIMIT}, over an outage`, admitted);
    await load.end();
    await sessions.check(round % 2 ? one : other);
    t.progress?.(round + 1, rounds);
  }
  await sessions.checkEnded(other);
  return found.seen();
}
