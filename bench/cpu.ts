import { readdirSync, readFileSync } from 'node:fs';

/** What `/proc` counts in, on every Linux that Node runs on: a hundredth of a second. */
const TICK_US = 10_000;

/**
 * CPU time of a process so far, user and system, all its threads, also those that have ended; microseconds, in whole ticks.
 * @throws {Error} where there is no `/proc`: only Linux has it.
 */
export function cpuUs(pid: number): number {
  const text = readFileSync(`/proc/${pid}/stat`, 'latin1');
  const fields = text.slice(text.lastIndexOf(')') + 2).split(' '); // a process's name may hold anything
  return (Number(fields[11]) + Number(fields[12])) * TICK_US; // utime and stime (proc(5))
}

/**
 * Counts from now on what processes take of the CPU; each call of what it gives says how much so far, in microseconds. To
 * the nanosecond, by what the scheduler keeps of each thread; a process of which a thread has ended meanwhile is told in
 * ticks, and one that has ended itself counts until it was last looked at.
 */
export function watchCpu(pids: readonly number[]): () => number {
  const began = pids.map((pid) => ({ pid, threads: threadsUs(pid), us: cpuUs(pid) }));
  let last = began.map(() => 0);
  return () => {
    last = began.map(({ pid, threads, us }, i) => {
      try {
        const now = threadsUs(pid);
        const isWhole = [...threads.keys()].every((thread) => now.has(thread));
        return isWhole ? sum(now) - sum(threads) : cpuUs(pid) - us;
      } catch {
        return last[i]!;
      }
    });
    return last.reduce((all, one) => all + one, 0);
  };
}

/** A process and what it has started: PostgreSQL serves each connection with one of its own. */
export function familyOf(pid: number): number[] {
  return [pid, ...readFileSync(`/proc/${pid}/task/${pid}/children`, 'latin1').split(' ').filter(Boolean).map(Number)];
}

/** The first number of a thread's `schedstat` is its time on a CPU, in nanoseconds. */
function threadsUs(pid: number): Map<string, number> {
  const threads = readdirSync(`/proc/${pid}/task`);
  return new Map(threads.map((thread) => [thread, parseInt(readFileSync(`/proc/${pid}/task/${thread}/schedstat`, 'latin1'), 10) / 1_000]));
}

const sum = (threads: ReadonlyMap<string, number>): number => threads.values().reduce((all, us) => all + us, 0);
