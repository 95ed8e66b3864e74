import { serverLog } from './server-log.ts';

/** Repeats until `held` is disposed, one run at a time; a run that fails is logged, and the next one tries again. */
export function every(held: AsyncDisposableStack, ms: number, act: () => unknown): void {
  let run: Promise<void> | undefined;
  const timer = setInterval(() => {
    run ??= Promise.try(act)
      .catch((error: unknown) => {
        // That the store is away is said once, where readiness is.
        if (Object(error).code !== 'unavailable') serverLog.error({ err: error }, 'housekeeping');
      })
      .then(() => {
        run = undefined;
      });
  }, ms).unref();
  held.defer(() => {
    clearInterval(timer);
    return run; // what it works on is disposed of next
  });
}
