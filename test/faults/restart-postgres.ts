import { setTimeout as wait } from 'node:timers/promises';
import { alice, startCluster } from '../support/cluster.ts';
import { until } from '../support/program.ts';
import { findings, type Scene, type Seen, timed } from './fault.ts';
import { sessionsOf } from './sessions.ts';

/**
 * PostgreSQL ends in mid-load under two instances, in turns by an immediate halt and by kill -9, and comes back: what was
 * answered holds, and whatever was not answered was 503.
 */
export async function restartPostgres(t: Scene, rounds: number): Promise<Seen> {
  const found = findings();
  const settings = { SESSIONS_PER_USER: '10000', ACCESS_TOKEN_TTL: '12 hours', REFRESH_GRACE: '5 minutes' };
  const { postgres, one, other } = await startCluster(t, settings);
  const sessions = sessionsOf(alice, { found });
  for (let round = 0; round < rounds; round += 1) {
    const load = await sessions.begin([one, other]);
    await wait(400 + Math.random() * 400);
    await (round % 2 ? postgres.kill() : postgres.halt('immediate'));
    await wait(100 + Math.random() * 300);
    await postgres.start();
    const tookMs = await timed(() =>
      Promise.all(
        [one, other].map((program) =>
          until(async () => {
            if ((await program.ask('GET', '/readyz')).status !== 200) return false;
            return (await program.ask('POST', '/login', { json: alice })).status === 200;
          }),
        ),
      ),
    );
    found.most('healthy again, slowest ms', tookMs);
    await wait(100);
    await load.end();
    await sessions.check(round % 4 < 2 ? one : other);
    t.progress?.(round + 1, rounds);
  }
  await sessions.checkEnded(one);
  return found.seen();
}
