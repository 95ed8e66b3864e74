/** Counts by name, of a bounded number of names: what comes beyond is counted as `other`. */
export type Tally = {
  add(name: string): void;
  of(name: string): number;
  all(): Iterable<readonly [name: string, count: number]>;
};

/** More than our own tables have by far: only names that a route of one's own makes up could ever be as many. */
const MAX_NAMES = 500;

export function tally(): Tally {
  const counts = new Map<string, number>();
  return {
    add(name) {
      const kept = counts.has(name) || counts.size < MAX_NAMES ? name : 'other';
      counts.set(kept, (counts.get(kept) ?? 0) + 1);
    },
    of: (name) => counts.get(name) ?? 0,
    all: () => counts,
  };
}
