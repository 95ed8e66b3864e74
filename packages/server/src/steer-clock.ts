import { type Clock, steeredClock } from '@portcullis/guard';
import { every } from './lib/every.ts';
import { serverLog } from './lib/server-log.ts';
import type { SqlStore } from './storage/sql/sql-store.ts';

/** A difference that is worth a line in the log: so much is more than two well-kept clocks ever are apart. */
const WORTH_A_LINE_MS = 1_000;

/**
 * The clock of this process, and how it follows the store's: where several machines share one, they all go by its time, so
 * that a token of one is neither expired nor of the future on another.
 */
export function clockOfStore(own: Clock) {
  const clock = steeredClock(own);
  let told = 0;

  async function steer(time: () => Promise<number>): Promise<void> {
    const before = own.now();
    const at = await time();
    const offset = at - (before + own.now()) / 2;
    clock.steer(offset);
    if (Math.abs(offset - told) < WORTH_A_LINE_MS) return;
    told = offset;
    serverLog.warn({ offsetMs: Math.round(offset) }, "the database's clock and this machine's are apart; the database's counts");
  }

  return {
    clock,
    /** Done when the clock has been set the first time; from then on it is set again every ten seconds. */
    async follow({ time }: Pick<SqlStore, 'time'>, held: AsyncDisposableStack): Promise<void> {
      if (!time) return;
      await steer(time);
      every(held, 10_000, () => steer(time));
    },
  };
}
