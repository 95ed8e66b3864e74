/** The only place that reads the time. */
export interface Clock {
  /** Epoch milliseconds. Never smaller than what it said before. */
  now(): number;
}

/** A forward step of the wall clock larger than this is followed; a smaller difference is not worth a jump. */
const FOLLOWED_STEP_MS = 1_000;

/**
 * Wall time at the start, monotonic from then on, so that setting the machine's clock back lengthens no token's life
 * and no window. A forward step (a laptop that slept, a clock that was wrong) is followed.
 * @param onStep told of each forward step, in milliseconds, so that it can be logged.
 */
export function systemClock(onStep: (stepMs: number) => void = () => {}): Clock {
  let base = Date.now() - performance.now();
  return {
    now() {
      const steady = base + performance.now();
      const step = Date.now() - steady;
      if (step <= FOLLOWED_STEP_MS) return Math.floor(steady);
      base += step;
      onStep(Math.round(step));
      return Math.floor(base + performance.now());
    },
  };
}

/**
 * Wall time at the start, monotonic from then on, whatever is done to the machine's clock: for who goes by another machine's.
 * Of a forward step it cannot tell a clock that was set from a machine that slept.
 * @param onStep told of each forward step, in milliseconds: it is time to ask that machine.
 */
export function steadyClock(onStep: (stepMs: number) => void = () => {}): Clock {
  const base = Date.now() - performance.now();
  let known = 0;
  return {
    now() {
      const steady = base + performance.now();
      const ahead = Date.now() - steady;
      const step = ahead - known;
      known = ahead;
      if (step > FOLLOWED_STEP_MS) onStep(Math.round(step));
      return Math.floor(steady);
    },
  };
}

/** A clock that is steered to another machine's time, and never runs backwards for it: it stands still until that has caught up. */
export interface SteeredClock extends Clock {
  /** @param offsetMs how far that machine's clock is ahead of ours. What was said before the first time was a guess, and binds nobody. */
  steer(offsetMs: number): void;
}

export function steeredClock(own: Clock): SteeredClock {
  let offset: number | undefined;
  let last = 0;
  return {
    now: () => (last = Math.max(last, own.now() + (offset ?? 0))),
    steer(offsetMs) {
      if (offset === undefined) last = 0;
      offset = Math.round(offsetMs);
    },
  };
}

/** Milliseconds of a watch that nobody sets, from some start of its own: for how long something took. */
export const stopwatch = (): number => performance.now();

/** A clock that stands still until it is moved: for tests of anything that takes time. */
export function manualClock(startsAt = Date.UTC(2026, 0, 1)): Clock & { advance(ms: number): void } {
  let at = startsAt;
  return {
    now: () => at,
    advance(ms) {
      if (!(ms >= 0)) throw new RangeError('a clock only moves forward');
      at += ms;
    },
  };
}
