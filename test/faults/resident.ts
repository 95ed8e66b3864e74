import { readFileSync } from 'node:fs';

/** Memory that a process holds, in MiB. Linux only: elsewhere it is 0. */
export function residentMb(pid: number): number {
  try {
    return Math.round(Number(/^VmRSS:\s+(\d+) kB/m.exec(readFileSync(`/proc/${pid}/status`, 'latin1'))?.[1] ?? 0) / 1_024);
  } catch {
    return 0;
  }
}
