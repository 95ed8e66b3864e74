import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import type { JWK } from 'jose';
import { good } from './askings.ts';
import type { BarePorts, BareSetting } from './bare.ts';
import type { Bench } from './bench.ts';
import { heard, startChild } from './child.ts';
import type { Asking, Slice, Target } from './generator.ts';
import type { Portcullis } from './portcullis.ts';
import { median, type Spread, spread } from './spread.ts';

/** What every cost is divided by: Node's own HTTPS server with the same certificate, asked for the same. */
export type Reference = {
  readonly http1: Target;
  readonly http2: Target;
  /** Asked in one order, round after round. */
  readonly asking: Asking;
};

/** @param beside whose certificate it shows, and whose tokens it can verify. */
export async function startReference(bench: Bench, beside: Portcullis): Promise<Reference> {
  const { ca, program } = beside;
  const [jwk] = (await program.ask('GET', '/.well-known/jwks.json')).json.keys as JWK[];
  if (!jwk) throw new Error('the server publishes no key');
  const pem = (name: string): string => readFileSync(join(program.folder, name), 'utf8');
  const child = startChild(bench, 'bare.ts');
  child.send({ cert: pem('cert.pem'), key: pem('key.pem'), jwk } satisfies BareSetting);
  const ports = await heard<BarePorts>(child, bench.signal);
  const target = (port: number): Target => ({ port, ca, pids: () => [child.pid ?? 0] });
  return { http1: target(ports.http1), http2: target(ports.http2), asking: good(beside) };
}

/** Something to be measured, again and again. */
export type Row = {
  readonly name: string;
  /** What each take needs, and is no part of what is measured. */
  readonly prepare?: () => Promise<void>;
  readonly take: (forMs: number) => Promise<Slice>;
};

/** In so many microseconds of the reference's own; what a round showed of one row, and of the others by their names. */
export type Round = ReadonlyMap<string, { readonly slice: Slice; readonly ratio: number; readonly together: number }>;

const WARM_UP_MS = 1_000;
/** Before, V8's compiler takes a tenth of the time and more; but no row is warmed up for longer than so. */
const WARM_REQUESTS = 40_000;
const WARM_AT_MOST_MS = 15_000;
const REFERENCE_MS = 200;
const ROW_MS = 300;
/** Where the reference after a row costs more or less than before it by more than this, it was not one machine that was measured. */
const STEADY = 0.1;
const TRIES = 5;

/**
 * All rows in turn, `rounds` times, and the reference before and after each: a machine's speed drifts by more than what is
 * measured, and neighbours drift together. A row during which the reference itself changed is taken again, whatever the row
 * showed, a few times at most; the steadiest counts.
 */
export async function takeRounds(bench: Bench, { http1, asking }: Reference, rows: readonly Row[], rounds: number): Promise<Round[]> {
  const reference = async (forMs: number): Promise<Slice> => bench.generator.slice(http1, asking, forMs);
  for (const { prepare, take } of [{ prepare: undefined, take: reference }, ...rows]) {
    let asked = 0;
    const until = performance.now() + WARM_AT_MOST_MS;
    while (performance.now() < until && asked < WARM_REQUESTS) {
      await prepare?.();
      asked += (await take(WARM_UP_MS)).completed;
    }
  }

  let before: Slice | undefined;
  async function steadiest({ prepare, take }: Row): Promise<{ slice: Slice; before: Slice; after: Slice }> {
    let best: { slice: Slice; before: Slice; after: Slice; drift: number } | undefined;
    for (let tries = 0; tries < TRIES && !(best && best.drift <= STEADY); tries++) {
      await prepare?.();
      if (prepare || !before) before = await reference(REFERENCE_MS);
      const slice = await take(ROW_MS);
      const after = await reference(REFERENCE_MS);
      const drift = Math.abs(after.cpuUs / before.cpuUs - 1);
      if (!best || drift < best.drift) best = { slice, before, after, drift };
      before = after;
    }
    if (!best) throw new Error('nothing was measured');
    return best;
  }

  const all: Round[] = [];
  while (all.length < rounds) {
    bench.step(all.length + 1, rounds);
    const round = new Map<string, { slice: Slice; ratio: number; together: number }>();
    for (const row of rows) {
      const { name } = row;
      const { slice, before, after } = await steadiest(row);
      const unit = (before.cpuUs + after.cpuUs) / 2;
      const stores = Object.values(slice.storesUs).reduce((sum, us) => sum + us, 0);
      round.set(name, { slice, ratio: slice.cpuUs / unit, together: (slice.cpuUs + stores) / unit });
      round.set(REFERENCE, { slice: after, ratio: 1, together: 1 });
    }
    all.push(round);
  }
  return all;
}

/** Its name among the rows. */
export const REFERENCE = 'bare node:https';

/** What a row showed over all rounds. */
export type Cost = {
  readonly name: string;
  readonly cpuUs: Spread;
  readonly storesUs: Readonly<Record<string, Spread>>;
  /** × the reference, of the server's own processes. */
  readonly ratio: Spread;
  /** The same with the stores. */
  readonly together: Spread;
  readonly perSecond: number;
  readonly p50Ms: number;
  readonly p99Ms: number;
};

export function costOf(name: string, rounds: readonly Round[]): Cost {
  const all = rounds.map((round) => {
    const one = round.get(name);
    if (!one) throw new Error(`${name} was not measured`);
    return one;
  });
  const stores = Object.keys(all[0]?.slice.storesUs ?? {});
  return {
    name,
    cpuUs: spread(all.map(({ slice }) => slice.cpuUs)),
    storesUs: Object.fromEntries(stores.map((store) => [store, spread(all.map(({ slice }) => slice.storesUs[store] ?? NaN))])),
    ratio: spread(all.map(({ ratio }) => ratio)),
    together: spread(all.map(({ together }) => together)),
    perSecond: median(all.map(({ slice }) => (slice.completed / slice.tookMs) * 1_000)),
    p50Ms: median(all.map(({ slice }) => slice.p50Ms)),
    p99Ms: median(all.map(({ slice }) => slice.p99Ms)),
  };
}
