import { setTimeout as wait } from 'node:timers/promises';
import { createClient } from '@redis/client';
import { alice, startCluster } from '../support/cluster.ts';
import { startFaultProxy } from '../support/fault-proxy.ts';
import { until } from '../support/program.ts';
import { type Redis, startRedis } from '../support/redis.ts';
import { findings, type Scene, type Seen } from './fault.ts';
import { admittedBy, freshAddress, isShared, LIMIT, outageSettings } from './limits.ts';
import { sessionsOf } from './sessions.ts';

/**
 * Redis forgets everything in mid-load, in turns by FLUSHALL and by a failover to a replica that has nothing: no ended
 * session is believed, and limits start anew.
 */
export async function loseRedis(t: Scene, rounds: number): Promise<Seen> {
  const found = findings();
  const [first, second] = [await startRedis(), await startRedis()];
  t.after(first.stop);
  t.after(second.stop);
  let [master, replica] = [first, second];
  const proxy = await startFaultProxy(t, master.port);
  const { one, other } = await startCluster(t, { ...outageSettings, REDIS_URL: `redis://127.0.0.1:${proxy.port}` });
  const sessions = sessionsOf(alice, { found });
  await until(() => isShared([one, other]));
  await wait(2_500); // each has heard of the other
  for (let round = 0; round < rounds; round += 1) {
    const load = await sessions.begin([one, other]);
    await wait(300 + Math.random() * 300);
    if (round % 2 === 0) await command(master, 'FLUSHALL');
    else {
      // A replica that had lost its master before the first byte.
      await command(replica, 'FLUSHALL');
      await command(replica, 'REPLICAOF', '127.0.0.1', '1');
      proxy.aim(replica.port);
      await master.kill();
      await wait(100 + Math.random() * 200); // found and not used: it is a replica
      await command(replica, 'REPLICAOF', 'NO', 'ONE');
      await master.start();
      [master, replica] = [replica, master];
    }
    const began = performance.now();
    await until(() => isShared([one, other]));
    found.most('limits shared again, slowest ms', performance.now() - began);
    const admitted = await admittedBy([one, other], freshAddress(), LIMIT + 2, found);
    if (admitted !== LIMIT) found.wrong(`${admitted} of a limit of ${LIMIT} were let in from rest`);
    await load.end();
    await sessions.check(round % 2 ? one : other);
    t.progress?.(round + 1, rounds);
  }
  await sessions.checkEnded(one);
  return found.seen();
}

async function command({ url }: Redis, ...words: string[]): Promise<void> {
  const client = createClient({ url }).on('error', () => {});
  await client.connect();
  await client.sendCommand(words);
  client.destroy();
}
