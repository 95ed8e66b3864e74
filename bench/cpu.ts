import { readFileSync } from 'node:fs';

/** What `/proc` counts in, on every Linux that Node runs on: a hundredth of a second. */
const TICK_US = 10_000;

/**
 * CPU time of a process so far, user and system, all its threads; microseconds.
 * @throws {Error} where there is no `/proc`: only Linux has it.
 */
export function cpuUs(pid: number): number {
  const text = readFileSync(`/proc/${pid}/stat`, 'latin1');
  const fields = text.slice(text.lastIndexOf(')') + 2).split(' '); // a process's name may hold anything
  return (Number(fields[11]) + Number(fields[12])) * TICK_US; // utime and stime (proc(5))
}
