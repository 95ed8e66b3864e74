import { serverLog } from './server-log.ts';

/** Repeats until `held` is disposed, one run at a time; a run that fails is logged, and the next one tries again. */
export function every(held: AsyncDisposableStack, ms: number, act: () => unknown): void {
  let running = false;
  const timer = setInterval(() => {
    if (running) return;
    running = true;
    Promise.try(act)
      .catch((error: unknown) => serverLog.error({ err: error }, 'housekeeping'))
      .finally(() => {
        running = false;
      });
  }, ms).unref();
  held.defer(() => clearInterval(timer));
}
