export type Breaker = {
  /** False while nobody is to wait for it: it has been silent too often, and somebody has just tried. */
  mayTry(): boolean;
  failed(): void;
  answered(): void;
};

/**
 * Keeps callers from waiting for somebody who does not answer. After so many failures in a row one caller may try every
 * `retryMs`, and all others are told at once; the first answer opens the way again for all.
 * @param now milliseconds, which never run backwards.
 */
export function breaker({ failures, retryMs, now }: { failures: number; retryMs: number; now: () => number }): Breaker {
  let inARow = 0;
  let nextTryAt = 0;
  return {
    mayTry() {
      if (inARow < failures) return true;
      if (now() < nextTryAt) return false;
      nextTryAt = now() + retryMs;
      return true;
    },
    failed() {
      inARow += 1;
      if (inARow === failures) nextTryAt = now() + retryMs;
    },
    answered() {
      inARow = 0;
    },
  };
}
