import { monitorEventLoopDelay, performance } from 'node:perf_hooks';
import { type Histogram, histogram } from './histogram.ts';

/** How late the event loop runs, and how much of its time it works. */
export type EventLoop = {
  /** Of each second, the longest that anything had to wait for its turn. */
  readonly delays: Histogram;
  busySeconds(): number;
  /** To be called once a second. */
  tick(): void;
  stop(): void;
};

/** What the monitor takes for on time, and what it is precise to. */
const RESOLUTION_MS = 20;

export function eventLoop(): EventLoop {
  const monitor = monitorEventLoopDelay({ resolution: RESOLUTION_MS });
  monitor.enable();
  const delays = histogram([0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5]);
  return {
    delays,
    busySeconds: () => performance.eventLoopUtilization().active / 1_000,
    // The worst of a second and not a sample now and then: whoever stood still for a quarter of it took few samples.
    tick() {
      delays.observe(Math.max(0, monitor.max / 1e6 - RESOLUTION_MS) / 1_000);
      monitor.reset();
    },
    stop: () => void monitor.disable(),
  };
}
