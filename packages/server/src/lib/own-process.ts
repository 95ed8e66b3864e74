import { readdirSync, readFileSync } from 'node:fs';

/** What this process uses of its machine. Files are counted on Linux alone; elsewhere they are `undefined`. */
export type OwnProcess = {
  readonly cpuSeconds: number;
  readonly residentBytes: number;
  readonly heapUsedBytes: number;
  readonly heapTotalBytes: number;
  readonly openFiles: number | undefined;
  readonly maxFiles: number | undefined;
};

export function ownProcess(): OwnProcess {
  const { user, system } = process.cpuUsage();
  const { rss, heapUsed, heapTotal } = process.memoryUsage();
  return {
    cpuSeconds: (user + system) / 1e6,
    residentBytes: rss,
    heapUsedBytes: heapUsed,
    heapTotalBytes: heapTotal,
    openFiles: ifThere(() => readdirSync('/proc/self/fd').length),
    maxFiles: ifThere(() => Number(/^Max open files +(\d+)/m.exec(readFileSync('/proc/self/limits', 'latin1'))?.[1])),
  };
}

function ifThere(look: () => number): number | undefined {
  try {
    const found = look();
    return Number.isFinite(found) ? found : undefined;
  } catch {
    return undefined;
  }
}
