import { type ChildProcess, fork } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import type { Ending } from '../test/support/program.ts';

/** Starts a program of this folder, which ends when it is let go. */
export function startChild(until: Ending, file: string, args: readonly string[] = []): ChildProcess {
  const child = fork(join(import.meta.dirname, file), args);
  until.after(async () => {
    if (!child.connected) return;
    const gone = once(child, 'exit');
    child.disconnect();
    await gone;
  });
  return child;
}

/** What it says next. @throws {Error} when it ends instead, or says nothing for so long. */
export async function heard<Said>(child: ChildProcess, signal: AbortSignal): Promise<Said> {
  const ended = new AbortController();
  const end = (): void => ended.abort(new Error(`${child.spawnargs[1]} has ended`));
  child.once('exit', end);
  try {
    const [said] = await once(child, 'message', { signal: AbortSignal.any([signal, ended.signal]) });
    return said as Said; // the two agree on it
  } catch (error) {
    throw error instanceof Error && error.cause instanceof Error ? error.cause : error; // why, and not that it was aborted
  } finally {
    child.off('exit', end);
  }
}
