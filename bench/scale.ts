import { availableParallelism, loadavg } from 'node:os';
import { parseArgs } from 'node:util';
import { type Postgres, startPostgres } from '../test/support/postgres.ts';
import { instanceSlopes, tripSlopes } from './scale/instances.ts';
import { clusterSlopes, memorySlopes, redisSlopes, tellingSlopes } from './scale/limits.ts';
import { type Slope, tableOf } from './scale/measure.ts';
import { storeSlopes } from './scale/stores.ts';
import { tokenSlopes } from './scale/tokens.ts';

/**
 * How each cost grows: with what is in the store and in Redis, with callers, instances, masters and distance. CPU time and
 * counts, not the clock: sizes have their turns within one run, and what is told is how one stands to the other.
 * `node bench/scale.ts [part …] [--json]`; `--smallest` only shows that it runs.
 */
const {
  values: { json, smallest },
  positionals,
} = parseArgs({
  allowPositionals: true,
  options: { json: { type: 'boolean', default: false }, smallest: { type: 'boolean', default: false } },
});

await using held = new AsyncDisposableStack();
const t = { after: (work: () => Promise<void> | void) => held.defer(async () => work()) };
let started: Promise<Postgres> | undefined;
const postgres = (): Promise<Postgres> =>
  (started ??= startPostgres().then((server) => {
    t.after(server.stop);
    return server;
  }));

const powers = (first: number, last: number): number[] => Array.from({ length: last - first + 1 }, (_, i) => 10 ** (first + i));
const times = smallest ? 1 : 5;
const of = (sizes: number[], count: number) => ({ sizes: smallest ? sizes.slice(0, 2) : sizes, times, count: smallest ? 20 : count });

const parts: Readonly<Record<string, () => Promise<Slope[]>>> = {
  stores: async () => storeSlopes(t, await postgres(), smallest ? { sizes: [100, 200], times, count: 3 } : of(powers(3, 6), 40)),
  memory: () => memorySlopes(of(powers(2, 5), 50_000)),
  redis: () => redisSlopes(t, of(powers(2, 5), 10_000)),
  telling: () => tellingSlopes(t, of(powers(3, 5), 0)),
  cluster: () => clusterSlopes(t, { times, count: smallest ? 20 : 10_000, callers: smallest ? 100 : 10_000 }),
  tokens: () => tokenSlopes(t, smallest ? of([10, 20], 5) : of([100, 1_000, 5_000, 20_000], 5_000)),
  instances: async () => instanceSlopes(t, await postgres(), { ...of([1, 2, 4], 2_000), idleMs: smallest ? 100 : 5_000 }),
  trips: async () => tripSlopes(t, await postgres(), smallest ? { count: 1, delayMs: 10 } : { count: 7, delayMs: 40 }),
};
const unknown = positionals.find((name) => !Object.hasOwn(parts, name));
if (unknown !== undefined) throw new Error(`${unknown} is none of ${Object.keys(parts).join(', ')}`);

const slopes: Slope[] = [];
const about = { node: process.version, cores: availableParallelism(), load: loadavg()[0], rounds: times };
if (!json) console.log(`Node ${about.node}, ${about.cores} cores, load ${about.load?.toFixed(1)}; medians of ${times} rounds\n`);
for (const name of positionals.length > 0 ? positionals : Object.keys(parts)) {
  const measured = await parts[name]!();
  slopes.push(...measured);
  if (!json) console.log(measured.map((slope) => `${tableOf(slope)}\n`).join('\n'));
}
if (json) console.log(JSON.stringify({ ...about, slopes }, undefined, 2));
