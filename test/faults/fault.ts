import type { Ending } from '../support/program.ts';

/** Where a fault is made: what it starts ends with it. */
export type Scene = Ending & {
  /** Told now and then how far it is. */
  progress?(done: number, of: number): void;
};

/** What came of a fault. */
export type Seen = {
  /** Each thing that was not as promised, in words; none is what must be. */
  readonly wrong: readonly string[];
  /** What was counted and measured, by its name and unit. */
  readonly figures: Readonly<Record<string, number>>;
};

/** Makes a fault so many times on programs that are really started. */
export type Fault = (t: Scene, rounds: number) => Promise<Seen>;

/** Collects what a fault shows. */
export type Findings = {
  wrong(what: string): void;
  /** Counts, from 0 on. */
  add(name: string, by?: number): void;
  /** The greatest that it was told. */
  most(name: string, value: number): void;
  /** Runs a check; what it throws is wrong, and nothing is thrown. */
  check(what: string, check: () => Promise<void> | void): Promise<void>;
  seen(more?: Record<string, number>): Seen;
};

/** Of what went wrong, so much is kept; there may be thousands of the same. */
const KEPT = 20;

export function findings(): Findings {
  const wrong: string[] = [];
  const figures = new Map<string, number>();
  let beyond = 0;
  const on: Findings = {
    wrong(what) {
      if (wrong.length < KEPT) wrong.push(what);
      else beyond += 1;
    },
    add: (name, by = 1) => void figures.set(name, (figures.get(name) ?? 0) + by),
    most: (name, value) => void figures.set(name, Math.max(figures.get(name) ?? 0, Math.round(value))),
    async check(what, check) {
      try {
        await check();
      } catch (error) {
        on.wrong(`${what}: ${error instanceof Error ? error.message : String(error)}`);
      }
    },
    seen: (more = {}) => ({
      wrong: beyond > 0 ? [...wrong, `and ${beyond} more`] : wrong,
      figures: { ...Object.fromEntries(figures), ...more },
    }),
  };
  return on;
}

/** Of some spans, how long the slowest but one in a hundred took; whole milliseconds. */
export const p99 = (took: readonly number[]): number => Math.round(took.toSorted((a, b) => a - b)[Math.floor(took.length * 0.99)] ?? 0);

/** Milliseconds that it took. */
export async function timed(work: () => Promise<unknown>): Promise<number> {
  const began = performance.now();
  await work();
  return performance.now() - began;
}
