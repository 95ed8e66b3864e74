import { type Clock, steeredClock, stopwatch } from '@portcullis/guard';
import { every } from './lib/every.ts';
import type { SqlStore } from './storage/sql/sql-store.ts';

/** Where it is told what an operator should know of clocks. */
export type ClockLog = Readonly<Record<'warn' | 'error', (facts: { readonly offsetMs: number }, text: string) => void>>;

/** A difference that is worth a line: so much is more than two well-kept clocks ever are apart. */
const WORTH_A_LINE_MS = 1_000;
/** What is believed at once: no more than a token may be of the future. */
const BELIEVED_STEP_MS = 60_000;
/** How long the database's clock must have been further ahead than that. */
const DOUBTED_FOR_MS = 60_000;

/**
 * The clock of this process, and how it follows the store's: where several machines share one, they all go by its time, so
 * that a token of one is neither expired nor of the future on another.
 *
 * A database whose clock leaps far ahead, for a moment, would end every session and take every key's time away. So a leap
 * of more than a minute is believed at once only where this machine's own clock says the same (both have slept), and
 * otherwise when it is still there after a minute. Where the database is behind, because it was ahead before, time goes
 * slower until they are together; who starts anew goes by it at once.
 */
export function clockOfStore(own: Clock, log: ClockLog, steady: () => number = stopwatch) {
  const clock = steeredClock(own, steady);
  let told = 0;
  let isSteered = false;
  let isBehind = false;
  let doubtedAt: number | undefined;

  /** Asks once, and steers by the answer. @param time the store's. */
  async function look(time: () => Promise<number>): Promise<void> {
    const askedAt = steady();
    const answer = await time();
    const tookMs = steady() - askedAt;
    if (isSteered && tookMs > WORTH_A_LINE_MS) return; // so late an answer says too little of the time
    const at = answer + tookMs / 2;
    const ahead = at - clock.now();
    const fromOwn = at - own.now();
    if (isSteered && ahead > BELIEVED_STEP_MS && Math.abs(fromOwn) > BELIEVED_STEP_MS && !hasLasted(ahead)) return;
    doubtedAt = undefined;
    tellOfOwn(fromOwn);
    if (isSteered) tellOfBehind(ahead);
    isSteered = true;
    clock.steer(at);
  }

  function hasLasted(ahead: number): boolean {
    if (doubtedAt === undefined) {
      doubtedAt = steady();
      log.error(
        { offsetMs: Math.round(ahead) },
        "the database's clock has leapt ahead: it is not followed unless it stays there for a minute",
      );
    }
    return steady() - doubtedAt >= DOUBTED_FOR_MS;
  }

  function tellOfOwn(offset: number): void {
    if (Math.abs(offset - told) < WORTH_A_LINE_MS) return;
    told = offset;
    log.warn({ offsetMs: Math.round(offset) }, "the database's clock and this machine's are apart; the database's counts");
  }

  function tellOfBehind(ahead: number): void {
    const wasBehind = isBehind;
    isBehind = ahead < -WORTH_A_LINE_MS;
    if (isBehind && !wasBehind)
      log.warn(
        { offsetMs: Math.round(ahead) },
        "the database's clock was set back: time goes a tenth slower here until it has caught up; a restart goes by it at once",
      );
  }

  return {
    clock,
    look,
    /** Done when the clock has been set the first time; from then on it is looked at every ten seconds. */
    async follow({ time }: Pick<SqlStore, 'time'>, held: AsyncDisposableStack): Promise<void> {
      if (!time) return;
      await look(time);
      every(held, 10_000, () => look(time));
    },
  };
}
