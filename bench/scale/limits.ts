import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import {
  type Charge,
  manualClock,
  memoryCounters,
  parseLimits,
  redisLedger,
  type RedisLedger,
  rulesFor,
  systemClock,
} from '@portcullis/guard';
import type { AskedSessions } from '../../packages/server/src/domain/session/asked-sessions.ts';
import type { Ended } from '../../packages/server/src/domain/session/session.ts';
import { newId } from '../../packages/server/src/lib/id.ts';
import { openRedis, type RedisLink } from '../../packages/server/src/storage/redis/redis-link.ts';
import { sharedRevocations } from '../../packages/server/src/storage/redis/shared-revocations.ts';
import { slotOf } from '../../packages/server/src/storage/redis/slot.ts';
import { type Ending, undoAfter, until } from '../../test/support/program.ts';
import { type Redis, startRedis, startRedisCluster } from '../../test/support/redis.ts';
import { gather, ownCpuUs, rounds, type Row, type Slope, threadsCpuUs, together } from './measure.ts';

type Bounds = { readonly sizes: readonly number[]; readonly times: number; readonly count: number };

/** As many requests at a time as a busy instance has. */
const WIDTH = 32;

const [byIp, byCaller] = rulesFor({ method: 'GET', path: '/notes' }, parseLimits('1000 per minute by ip; 1000 per minute by caller'));
const byAddress = (who: string): Charge => ({ rule: byIp!, who });
const byUser = (who: string): Charge => ({ rule: byCaller!, who });

/** Limits in memory: what a request costs, and what a counter takes. */
export async function memorySlopes({ sizes, times, count }: Bounds): Promise<Slope[]> {
  const all = gather();
  let bytes = 0;
  for (const [at, size] of sizes.entries()) {
    const before = heapAfterGc();
    const counters = memoryCounters({ clock: systemClock(), secret: Buffer.alloc(32), maxKeys: 10_000_000 });
    for (let i = 0; i < size; i++) counters.take([byAddress(`address ${i}`)]);
    bytes = (heapAfterGc() - before) / size;
    for (let round = 0; round < times; round++) {
      const asked = Array.from({ length: count }, (_, i) => [byAddress(`address ${(i * 7_919) % size}`)]);
      const began = ownCpuUs();
      for (const charges of asked) counters.take(charges);
      all.add('µs of CPU a request', at, (ownCpuUs() - began) / count);
      const swept = ownCpuUs();
      counters.sweep();
      all.add("µs of CPU of each second's sweep", at, ownCpuUs() - swept);
    }
  }
  return [
    { title: 'Limits in memory', over: 'live counters', sizes, unit: 'as said', rows: all.rows() },
    roomOf('memory', 'live counters', sizes, bytes),
  ];
}

/** Of the largest number alone: with few, what is there anyway outweighs them. */
const roomOf = (where: string, what: string, sizes: readonly number[], bytes = NaN): Slope => ({
  title: `Room in ${where}`,
  over: '',
  sizes: sizes.slice(-1),
  unit: 'bytes each',
  rows: [{ name: what, values: [Math.round(bytes)] }],
});

export function heapAfterGc(): number {
  setFlagsFromString('--expose-gc');
  const collect = runInNewContext('gc');
  for (let i = 0; i < 3; i++) collect();
  return process.memoryUsage().heapUsed;
}

/** One Redis as it fills with counters, and with revocations. */
export async function redisSlopes(t: Ending, { sizes, times, count }: Bounds): Promise<Slope[]> {
  const slopes: Slope[] = [];
  for (const what of ['live counters', 'revocations'] as const) {
    const places = new Map<number, { redis: Redis; ledger: RedisLedger; pid: number; bytes: number }>();
    for (const size of sizes) {
      const { redis, link } = await openOne(t);
      const ledger = ledgerOver(link);
      await ledger.claim('bench', 1);
      const empty = await usedBy(redis);
      await together(size, WIDTH, async (i) =>
        what === 'revocations' ? ledger.revoke(sessionOf(i), 900_000) : ledger.take([byAddress(`address ${i}`)]),
      );
      places.set(size, { redis, ledger, pid: await pidOf(redis), bytes: ((await usedBy(redis)) - empty) / size });
    }
    const all = gather();
    await rounds(times, sizes, async (size, at, round) => {
      const { ledger, pid } = places.get(size)!;
      const nth = (i: number): number => ((i + round * count) * 7_919) % size;
      const [redis, own] = [threadsCpuUs(pid), ownCpuUs()];
      await together(count, WIDTH, (i) => ledger.takeFor(sessionOf(nth(i)), [byAddress(`address ${nth(i)}`)], [byUser('user')]));
      all.add('Redis', at, (threadsCpuUs(pid) - redis) / count);
      all.add('the instance for it', at, (ownCpuUs() - own) / count);
    });
    slopes.push({ title: 'A request with two limits and a session, one Redis', over: what, sizes, unit: 'µs of CPU', rows: all.rows() });
    slopes.push(roomOf('Redis', what, sizes, [...places.values()].at(-1)?.bytes));
  }
  return slopes;
}

/** A Redis that has forgotten is told what is revoked; until then each request asks PostgreSQL. */
export async function tellingSlopes(t: Ending, { sizes, times }: Bounds): Promise<Slope[]> {
  const all = gather();
  const { redis, link } = await openOne(t);
  const pid = await pidOf(redis);
  const clock = manualClock(Date.now());
  await rounds(times, sizes, async (size, at) => {
    await redis.tell('flushall');
    const ended: Ended[] = Array.from({ length: size }, (_, i) => ({
      id: sessionOf(i),
      userId: 'usr_1',
      accessUntil: clock.now() + 900_000,
    }));
    const revocations = sharedRevocations({
      ledger: ledgerOver(link),
      run: () => 1,
      sessions: { listRevoked: async () => ended },
      whoIsIt: async () => {},
      keys: { version: async () => 1 },
      accessTokenTtlMs: 900_000,
      asked: { follow: () => undefined } as unknown as AskedSessions, // nobody asks the store here
      clock,
    });
    const [theirs, own, began] = [threadsCpuUs(pid), ownCpuUs(), performance.now()];
    await revocations.load();
    all.add('ms until it is believed', at, performance.now() - began);
    all.add('ms of CPU of the instance', at, (ownCpuUs() - own) / 1_000);
    all.add('ms of CPU of Redis', at, (threadsCpuUs(pid) - theirs) / 1_000);
  });
  return [{ title: 'Telling a fresh Redis', over: 'revocations', sizes, unit: 'as said', rows: all.rows() }];
}

/** One Redis against three masters: the cost of a request, and where ten thousand random callers come to lie. */
export async function clusterSlopes(
  t: Ending,
  { times, count, callers }: { times: number; count: number; callers: number },
): Promise<Slope[]> {
  const { redis, link } = await openOne(t);
  const cluster = await startRedisCluster(3);
  undoAfter(t, cluster.stop);
  const clusterLink = openRedis({ url: cluster.url, timeoutMs: 5_000, greet: async () => {} });
  undoAfter(t, clusterLink.close);
  await until(clusterLink.isUp);
  const places = [
    { ledger: ledgerOver(link), pids: [await pidOf(redis)] },
    { ledger: ledgerOver(clusterLink), pids: await Promise.all(cluster.nodes.map(pidOf)) },
  ];
  const requests: readonly (readonly [string, (ledger: RedisLedger, i: number) => Promise<unknown>])[] = [
    ['a limit by address', async (ledger, i) => ledger.take([byAddress(`address ${i}`)])],
    [
      'by address and by caller, and the session',
      (ledger, i) => ledger.takeFor(sessionOf(i), [byAddress(`address ${i}`)], [byUser(`user ${i}`)]),
    ],
  ];
  const all = gather();
  for (const { ledger } of places) await ledger.claim('bench', 1);
  await rounds(times, [1, 3], async (_, at, round) => {
    const { ledger, pids } = places[at]!;
    for (const [name, one] of requests) {
      const [own, theirs] = [ownCpuUs(), pids.map(threadsCpuUs)];
      await together(count, WIDTH, (i) => one(ledger, (i + round * count) % callers));
      const took = pids.map((pid, i) => threadsCpuUs(pid) - theirs[i]!);
      all.add(`${name}: the instance`, at, (ownCpuUs() - own) / count);
      all.add(`${name}: all masters`, at, took.reduce((sum, us) => sum + us) / count);
      all.add(`${name}: the busiest one`, at, Math.max(...took) / count);
    }
  });
  return [
    { title: 'One Redis, and a cluster', over: 'masters', sizes: [1, 3], unit: 'µs of CPU a request', rows: all.rows() },
    await spreadOf(cluster.nodes, places[1]!.ledger, callers),
  ];
}

async function spreadOf(nodes: readonly Redis[], ledger: RedisLedger, callers: number): Promise<Slope> {
  await Promise.all(nodes.map((node) => node.tell('flushall')));
  await ledger.claim('bench', 1);
  await together(callers, WIDTH, () => ledger.takeFor(newId('session'), [byAddress(newId('token'))], [byUser(newId('user'))]));
  await together(callers / 10, WIDTH, () => ledger.revoke(newId('session'), 60_000));
  const keys = await Promise.all(nodes.map(async (node) => (await node.tell('--scan', '--pattern', '*')).split('\n')));
  const kept = (kind: string, name: string): Row => ({
    name,
    values: keys.map((own) => own.filter((key) => key.includes(`:${kind}:`)).length),
  });
  return {
    title: `Where the keys of ${callers.toLocaleString('en')} random callers are`,
    over: '',
    sizes: nodes.map((_, i) => `master ${i + 1}`),
    unit: 'keys',
    rows: [
      kept('limit', 'counters'),
      kept('revoked', 'revocations'),
      kept('generation', 'generations'),
      { name: 'slots in use', values: keys.map((own) => new Set(own.map(slotOf)).size) },
    ],
  };
}

async function openOne(t: Ending): Promise<{ redis: Redis; link: RedisLink }> {
  const redis = await startRedis();
  undoAfter(t, redis.stop);
  const link = openRedis({ url: redis.url, timeoutMs: 5_000, greet: async () => {} });
  undoAfter(t, link.close);
  await until(link.isUp);
  return { redis, link };
}

const ledgerOver = ({ run, keep, isCluster }: RedisLink): RedisLedger => redisLedger({ run, keep, isCluster, prefix: 'bench' });

const sessionOf = (i: number): string => `ses_${String(i).padStart(32, '0')}`;

const infoOf = async (redis: Redis, name: string): Promise<number> =>
  Number(new RegExp(`^${name}:(\\d+)`, 'm').exec(await redis.tell('info'))?.[1]);
export const pidOf = (redis: Redis): Promise<number> => infoOf(redis, 'process_id');
const usedBy = (redis: Redis): Promise<number> => infoOf(redis, 'used_memory');
