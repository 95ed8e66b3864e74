import { DatabaseSync } from 'node:sqlite';

/**
 * The right to be the one server of a store on SQLite: what it keeps in memory would be wrong beside a second one. Held
 * as SQLite's own lock on a file beside the store, which the kernel frees when the process dies, however it dies.
 * @returns what gives the lock back; `undefined` when another server has it.
 */
export function lockForServer(file: string): (() => void) | undefined {
  const lock = new DatabaseSync(file, { timeout: 0 });
  try {
    lock.exec('PRAGMA locking_mode = EXCLUSIVE; PRAGMA journal_mode = DELETE; BEGIN EXCLUSIVE;');
    return () => lock.close();
  } catch {
    lock.close();
    return undefined;
  }
}
