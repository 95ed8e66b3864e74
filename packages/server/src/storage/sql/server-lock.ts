import { existsSync, lstatSync, readlinkSync, realpathSync } from 'node:fs';
import { basename, dirname, join, resolve } from 'node:path';
import { DatabaseSync } from 'node:sqlite';

/**
 * The right to be the one server of a store on SQLite: what it keeps in memory would be wrong beside a second one. Held
 * as SQLite's own lock on a file beside the store, which the kernel frees when the process dies, however it dies. By
 * whatever links the store is named, it is the same lock.
 * @returns what gives the lock back; `undefined` when another server has it.
 * @throws {Error} of SQLite's, when the lock's file is not usable.
 */
export function lockForServer(database: string): (() => void) | undefined {
  const lock = new DatabaseSync(`${realPath(database)}.lock`, { timeout: 0 });
  try {
    lock.exec('PRAGMA locking_mode = EXCLUSIVE; PRAGMA journal_mode = DELETE; BEGIN EXCLUSIVE;');
    return () => lock.close();
  } catch (error) {
    lock.close();
    if (Object(error).errcode === SQLITE_BUSY) return undefined;
    throw error;
  }
}

const SQLITE_BUSY = 5;

/** Where a path leads, also where nothing is yet at its end. */
function realPath(path: string): string {
  if (existsSync(path)) return realpathSync(path);
  const link = lstatSync(path, { throwIfNoEntry: false });
  if (link?.isSymbolicLink()) return realPath(resolve(dirname(path), readlinkSync(path)));
  return join(realpathSync(dirname(path)), basename(path));
}
