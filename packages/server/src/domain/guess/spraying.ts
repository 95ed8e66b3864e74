import { type Clock, recentMap } from '@portcullis/guard';
import { sha256 } from '../../lib/seal.ts';

/**
 * Watches for one password tried on many names (password spraying, OWASP ASVS 5.0 6.1.1), which the budget of no single
 * name shows. In memory and bounded: it only sees, it lets nobody in and keeps nobody out.
 */
export interface SprayWatch {
  /** A login failed. `undefined`: from there that is nothing unusual. */
  failed(block: string, nameKey: string): Spraying | undefined;
}

/** So many names have failed from one address block within an hour. */
export type Spraying = {
  readonly names: number;
  /** Once for each hour that it lasts. */
  readonly isNews: boolean;
  /** The audit row that sums the block's failures of this hour, so that made-up names fill no disk. */
  readonly sumId: string;
};

const HOUR_MS = 3_600_000;
const NAMES = 10;
/** How many names are told apart: enough to see that it goes on. */
const MAX_NAMES = 64;
const MAX_BLOCKS = 10_000;

export function sprayWatch({ clock }: { clock: Clock }): SprayWatch {
  const blocks = recentMap<string, { readonly failedAt: Map<string, number>; toldAt: number }>(MAX_BLOCKS);

  return {
    failed(block, nameKey) {
      const now = clock.now();
      const known = blocks.get(block);
      const seen = known ?? { failedAt: new Map<string, number>(), toldAt: -Infinity };
      if (!known) blocks.set(block, seen);

      const { failedAt } = seen;
      const name = sha256(nameKey);
      failedAt.delete(name);
      failedAt.set(name, now);
      // In the order of their last failure: the first are the oldest.
      for (const [oldest, at] of failedAt) {
        if (now - at < HOUR_MS && failedAt.size <= MAX_NAMES) break;
        failedAt.delete(oldest);
      }
      if (failedAt.size < NAMES) return undefined;

      const isNews = now - seen.toldAt >= HOUR_MS;
      if (isNews) seen.toldAt = now;
      return { names: failedAt.size, isNews, sumId: `aud_sum_${sha256(`${Math.floor(now / HOUR_MS)} ${block}`).slice(0, 32)}` };
    },
  };
}
