import type { Buckets } from './exposition.ts';

/** How often something took how long: plain numbers, put together when somebody asks. */
export type Histogram = {
  observe(seconds: number): void;
  /** How many were not above each bound, in their order; the last is all of them. */
  cumulated(): readonly (readonly [upTo: number, count: number])[];
  sum(): number;
};

/** @param bounds in seconds, rising. */
export function histogram(bounds: readonly number[]): Histogram {
  const counts = Array.from({ length: bounds.length + 1 }, () => 0);
  let sum = 0;
  return {
    observe(seconds) {
      let i = 0;
      while (i < bounds.length && seconds > bounds[i]!) i++;
      counts[i]! += 1;
      sum += seconds;
    },
    cumulated() {
      let below = 0;
      return counts.map((count, i) => [bounds[i] ?? Infinity, (below += count)] as const);
    },
    sum: () => sum,
  };
}

/** As it stands now. */
export const bucketsOf = (taken: Pick<Histogram, 'cumulated' | 'sum'>): Buckets => ({ cumulated: taken.cumulated(), sum: taken.sum() });
