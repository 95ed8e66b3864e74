import { steadyClock, steeredClock, systemClock } from '@portcullis/guard';
import { every } from './lib/every.ts';
import { serverLog } from './lib/server-log.ts';
import type { Settings } from './settings/table.ts';
import type { SqlStore } from './storage/sql/sql-store.ts';

/** A difference that is worth a line in the log: so much is more than two well-kept clocks ever are apart. */
const WORTH_A_LINE_MS = 1_000;

/**
 * The clock of this process, and how it follows the store's: where several machines share one, they all go by its time, so
 * that a token of one is neither expired nor of the future on another. Then a step of this machine's own clock counts for
 * nothing, for once followed it could only be taken back by standing still; but the store is asked at once, for the machine
 * may have slept.
 */
export function clockOfStore({ database }: Pick<Settings, 'database'>) {
  let askAnew = (): void => {};
  const own =
    database.engine === 'sqlite'
      ? systemClock((stepMs) => serverLog.warn({ stepMs }, 'the clock was set forward'))
      : steadyClock((stepMs) => {
          serverLog.warn({ stepMs }, "the clock was set forward; the database's counts");
          askAnew();
        });
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
      askAnew = () => void steer(time).catch(() => {}); // else within ten seconds
      every(held, 10_000, () => steer(time));
    },
  };
}
