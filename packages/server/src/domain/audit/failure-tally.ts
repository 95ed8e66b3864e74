import type { Clock } from '@portcullis/guard';
import { sha256 } from '../../lib/seal.ts';

/**
 * Which audit row a failed login belongs to: the first five of a name in a day have one each, after that they are
 * summed by the minute, so that guessing fills no disk.
 */
export interface FailureTally {
  /** `undefined`: a row of its own; else the id of the minute's row. */
  rowFor(nameKey: string): string | undefined;
}

const ROWS_A_DAY = 5;
const DAY_MS = 86_400_000;
const MAX_NAMES = 10_000;

export function failureTally(on: { clock: Clock }): FailureTally {
  const failures = new Map<string, { since: number; count: number }>();

  return {
    rowFor(nameKey) {
      const now = on.clock.now();
      const known = failures.get(nameKey);
      const entry = known && now - known.since < DAY_MS ? known : { since: now, count: 0 };
      entry.count += 1;
      failures.delete(nameKey);
      failures.set(nameKey, entry);
      if (failures.size > MAX_NAMES) failures.delete(failures.keys().next().value ?? '');
      if (entry.count <= ROWS_A_DAY) return undefined;
      return `aud_sum_${sha256(`${Math.floor(now / 60_000)} ${nameKey}`).slice(0, 32)}`;
    },
  };
}
