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
 * A clock that is steered to another machine's time. The first time it is set outright, for nobody has acted on what it said
 * until then; after that it never runs backwards: it stands still until the other has caught up.
 */
export interface SteeredClock extends Clock {
  /** @param offsetMs how far that machine's clock is ahead of ours. */
  steer(offsetMs: number): void;
}

export function steeredClock(own: Clock): SteeredClock {
  let offset = 0;
  let last = 0;
  let isSteered = false;
  return {
    now: () => (last = Math.max(last, own.now() + offset)),
    steer(offsetMs) {
      offset = Math.round(offsetMs);
      if (!isSteered) last = 0;
      isSteered = true;
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
