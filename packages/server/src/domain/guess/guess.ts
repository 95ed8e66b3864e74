/** How many attempts at a password someone has: so many in any window, and after some of them a pause before the next. */
export type Budget = {
  readonly windowMs: number;
  readonly most: number;
  /** The pause that is due after the last of so many attempts. Grows with them, if it changes at all. */
  readonly pauseMs: (attempts: number) => number;
};

const MINUTE_MS = 60_000;
const HOUR_MS = 60 * MINUTE_MS;

/**
 * What all unknown devices together have for one name: five attempts, then one after 1, 2, 4, 8 and each further 15
 * minutes, never more than a hundred in any 24 hours (NIST SP 800-63B-4 section 3.2.2; ASVS 5.0 6.1.1, 6.3.1).
 */
export const strangersBudget: Budget = {
  windowMs: 24 * HOUR_MS,
  most: 100,
  pauseMs: (attempts) => (attempts < 5 ? 0 : Math.min(2 ** (attempts - 5), 15) * MINUTE_MS),
};

/** What one known device has for one name, apart from the strangers. */
export const deviceBudget: Budget = { windowMs: HOUR_MS, most: 10, pauseMs: () => 0 };

/** An attempt is let in, and these are the budget's attempts with it; or it is not, and may come again then. */
export type Judgement = { readonly times: readonly number[] } | { readonly retryAt: number };

/**
 * Whether one more attempt is let in. If nobody else tries meanwhile, one made at `retryAt` is.
 * @param times of the attempts that count already, the oldest first.
 */
export function judge(times: readonly number[], budget: Budget, now: number): Judgement {
  const counted = attemptsIn(times, budget, now);
  const last = counted.at(-1) ?? -Infinity;
  const oldestLeavesAt = (counted[counted.length - budget.most] ?? -Infinity) + budget.windowMs;
  const retryAt = Math.max(last + budget.pauseMs(counted.length), oldestLeavesAt);
  // Of two that read the clock at once the later may be judged first: then it is as late for both, and the order holds.
  const at = Math.max(now, last);
  return retryAt > at ? { retryAt } : { times: [...counted, at] };
}

/**
 * Those that count now. A host whose clock was far ahead, and was set right, has attempts from the future: they would
 * keep everyone out until then.
 */
export const attemptsIn = (times: readonly number[], { windowMs }: Budget, now: number): number[] =>
  times.filter((at) => Math.abs(now - at) < windowMs);

/** Where attempts are counted: a budget, and the row that has its list. */
export type GuessPlace = {
  readonly budget: Budget;
  readonly key: string;
  /**
   * The row to count in instead, shared with others, while there are `beyond` rows and none of one's own. One's own begins
   * as a copy of it, so that nobody has more than the budget in the two together.
   */
  readonly overflow?: { readonly key: string; readonly beyond: number };
};

/** An attempt that was counted: what it takes to give it back. */
export type Guess = { readonly key: string; readonly at: number };

export interface Guesses {
  /** Counts an attempt, or says when it may come again and changes nothing. Of many at once, no more are let in than the budget has. */
  take(place: GuessPlace, at: number): Promise<Guess | { readonly retryAt: number }>;
  /** The attempt was none: its password was right, or was never looked at. Given back once. */
  giveBack(guess: Guess): Promise<void>;
  /** Forgets all attempts, also those that are counted with others' until then. @returns how many had counted. */
  clear(place: GuessPlace, at: number): Promise<number>;
  /** Deletes at most so many lists none of whose attempts counts any more. @returns how many. */
  deleteDead(now: number, limit: number): Promise<number>;
}
