/** What rounds showed: the middle one, and how far the others are from it. */
export type Spread = {
  readonly median: number;
  readonly min: number;
  readonly max: number;
  /** Where the median would be if there had been ever more rounds: between these two, 19 times of 20. */
  readonly sure: readonly [number, number];
};

/** @throws {Error} of nothing. */
export function spread(values: readonly number[]): Spread {
  const sorted = values.toSorted((a, b) => a - b);
  const at = (share: number): number => {
    const place = (sorted.length - 1) * share;
    const [below, above] = [sorted[Math.floor(place)], sorted[Math.ceil(place)]];
    if (below === undefined || above === undefined) throw new Error('nothing was measured');
    return below + (above - below) * (place % 1);
  };
  // By ranks, which asks nothing of how they are spread: a normal approximation of the binomial distribution.
  const around = Math.min(0.5, 0.98 / Math.sqrt(sorted.length));
  return { median: at(0.5), min: at(0), max: at(1), sure: [at(0.5 - around), at(0.5 + around)] };
}

export const median = (values: readonly number[]): number => spread(values).median;
