import { performance } from 'node:perf_hooks'; // the global of that name is a getter, and slower

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
 * A clock that goes by another machine's, once it has been told of it. It never runs backwards: where it is ahead of that one, it goes
 * a tenth slower until they are together again. Nor does it stand still: then no token would end, and no window pass.
 */
export interface SteeredClock extends Clock {
  /** @param at what that machine's clock says now. The first time it is taken as it is. */
  steer(at: number): void;
}

const SLOWED_TO = 0.9;

/** @param own what counts until it is steered. @param steady a watch that nobody sets; what is done to this machine's clock is no matter from then on. */
export function steeredClock(own: Clock, steady: () => number = stopwatch): SteeredClock {
  let ahead: number | undefined;
  let [said, saidAt] = [-Infinity, 0];
  return {
    now() {
      if (ahead === undefined) return own.now();
      const at = steady();
      said = Math.max(at + ahead, said + (at - saidAt) * SLOWED_TO);
      saidAt = at;
      return Math.floor(said);
    },
    steer(at) {
      ahead = at - steady();
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
