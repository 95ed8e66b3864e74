export type Breaker = {
  /** Whether nobody is to wait for it now. */
  isOpen(): boolean;
  failed(): void;
  answered(): void;
  close(): void;
};

/**
 * Keeps callers from waiting for somebody who does not answer: after so many failures in a row all are told at once, and
 * `tryIt` alone asks, one try after the other, until it is answered.
 * @param on.tryIt rejects while there is no answer.
 */
export function breaker(on: { failures: number; retryMs: number; tryIt: () => Promise<unknown> }): Breaker {
  let inARow = 0;
  let timer: NodeJS.Timeout | undefined;
  let isClosed = false;

  const tryAgain = (): void => {
    if (isClosed) return;
    timer = setTimeout(() => {
      on.tryIt().then(answered, tryAgain);
    }, on.retryMs).unref();
  };

  function answered(): void {
    clearTimeout(timer);
    timer = undefined;
    inARow = 0;
  }

  return {
    isOpen: () => inARow >= on.failures,
    failed() {
      inARow += 1;
      if (inARow === on.failures) tryAgain();
    },
    answered,
    close() {
      isClosed = true;
      clearTimeout(timer);
    },
  };
}
