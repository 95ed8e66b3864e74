/** What rounds showed: the middle one, and how far the others are from it. */
export type Spread = {
  readonly median: number;
  readonly min: number;
  readonly max: number;
  /** Half of all are between these two. */
  readonly quarters: readonly [number, number];
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
  return { median: at(0.5), min: at(0), max: at(1), quarters: [at(0.25), at(0.75)] };
}

export const median = (values: readonly number[]): number => spread(values).median;
