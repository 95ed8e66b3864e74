import { setTimeout as wait } from 'node:timers/promises';
import { startCluster } from '../support/cluster.ts';
import { startFaultProxy } from '../support/fault-proxy.ts';
import { type Program, until } from '../support/program.ts';
import { startRedis } from '../support/redis.ts';
import { findings, type Findings, type Scene, type Seen } from './fault.ts';
import { freshAddress } from './limits.ts';
import { livingAndEnded } from './sessions.ts';

const LIMIT = 1_000;
/** While Redis is away, each of the two instances counts so many: what is left tells who has counted. */
const SHARE = LIMIT / 2;
const CLIENTS = 24;

/**
 * Redis's answers are cut off in their middle, again and again, while many are under way: no answer is taken for another's.
 * Each client counts its own limit, so that one that belongs to another address is seen by its number; and sessions that
 * live and that have ended ask in turns.
 * @param answers of Redis, that are looked at; what the instance counts by itself meanwhile comes on top.
 */
export async function cutAnswers(t: Scene, answers: number): Promise<Seen> {
  const found = findings();
  const redis = await startRedis();
  t.after(redis.stop);
  const proxy = await startFaultProxy(t, redis.port);
  const settings = { REDIS_URL: `redis://127.0.0.1:${proxy.port}`, REDIS_TIMEOUT: '2 s', PROTECTED_LIMITS: `${LIMIT} per hour by ip` };
  const { one, other } = await startCluster(t, settings);
  const tokens = await livingAndEnded(one, other);
  await until(async () => (await leftAfter(one, tokens.living, freshAddress())) === LIMIT - 1);
  await wait(2_500); // each has heard of the other

  let left = answers;
  const client = async (): Promise<void> => {
    while (left > 0) {
      const address = freshAddress();
      const most = Math.floor(Math.random() * 300); // so that no two are at the same number for long
      let [asked, byRedis] = [0, 0];
      while (left > 0 && asked < most) {
        asked += 1;
        const isLiving = Math.random() < 0.5;
        const n = await leftAfter(one, isLiving ? tokens.living : tokens.ended, address, found, isLiving);
        if (n === undefined || n < SHARE) {
          found.add('counted by its share');
          await wait(5);
          continue;
        }
        left -= 1;
        byRedis += 1;
        // Redis may have counted what it could not answer any more.
        if (n < LIMIT - asked || n > LIMIT - byRedis)
          found.wrong(`${n} left of ${LIMIT} after ${asked} requests, ${byRedis} of them answered by Redis`);
        if (left % 200 === 0) t.progress?.(answers - left, answers);
      }
    }
  };
  proxy.be({ cutAfter: () => 1 + Math.floor(Math.random() * 40_000) /* a quarter of it goes for who Redis is */ });
  await Promise.all(Array.from({ length: CLIENTS }, client));
  proxy.heal();
  await until(async () => (await leftAfter(one, tokens.living, freshAddress())) === LIMIT - 1);
  const { connections, cuts } = proxy.counts();
  if (cuts === 0) found.wrong('no answer was cut');
  return found.seen({ 'answered by Redis': answers, cuts, connections });
}

/** What the answer says is left of the limit of this address; `undefined` where it was 503. */
async function leftAfter(
  program: Program,
  bearer: string,
  from: string,
  found: Findings = findings(),
  isLiving = true,
): Promise<number | undefined> {
  const { status, headers, json, text } = await program.ask('GET', '/protected', { bearer, from });
  if (status === 503 && headers['retry-after'] !== undefined) {
    found.add('503');
    return undefined;
  }
  if (isLiving ? status !== 200 : json?.code !== 'token_revoked')
    found.wrong(`${isLiving ? 'a living' : 'an ended'} session: ${status} ${text}`);
  return Number(/;r=(\d+)/.exec(String(headers.ratelimit))?.[1]);
}
