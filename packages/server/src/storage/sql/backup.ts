import { closeSync, existsSync, fsyncSync, linkSync, openSync, rmSync, statSync } from 'node:fs';
import { dirname } from 'node:path';
import { backup, DatabaseSync } from 'node:sqlite';

const PAGES_A_STEP = 500;

/**
 * Copies an SQLite store as it is at this moment into a new file, while its server goes on. `to` is there at the end,
 * whole, checked and on the disk, or not at all; a process that is killed leaves `to`.part, which the next copy replaces.
 * @param onStep told how much is done, from 0 to 1.
 * @returns its size; or what is damaged in the store, and then there is no copy.
 * @throws {Error} `EEXIST` when there is something at `to` already.
 */
export async function backUp(
  from: string,
  to: string,
  onStep: (done: number) => void = () => {},
): Promise<{ readonly bytes: number } | { readonly damage: string }> {
  using made = new DisposableStack();
  if (existsSync(to)) throw Object.assign(new Error(`${to} is there already`), { code: 'EEXIST', path: to });
  const half = `${to}.part`;
  rmSync(half, { force: true }); // of a copy that was killed
  closeSync(openSync(half, 'wx', 0o600));
  made.defer(() => rmSync(half, { force: true }));
  await copy(from, half, onStep);
  const damage = damageOf(half);
  if (damage !== undefined) return { damage };
  sync(half);
  linkSync(half, to); // unlike a renaming, it replaces nothing that has come there meanwhile
  sync(dirname(to));
  return { bytes: statSync(to).size };
}

async function copy(from: string, to: string, onStep: (done: number) => void): Promise<void> {
  const source = new DatabaseSync(from, { timeout: 2_000 });
  try {
    // Within one read transaction all steps see one moment; without it, each write of the server would start them over.
    source.exec('BEGIN; SELECT 1 FROM sqlite_schema;');
    await backup(source, to, { rate: PAGES_A_STEP, progress: ({ totalPages, remainingPages }) => onStep(1 - remainingPages / totalPages) });
  } finally {
    source.close();
  }
}

/** `undefined` for a whole one. Also makes it one file, that needs no log beside it. */
function damageOf(file: string): string | undefined {
  const copied = new DatabaseSync(file);
  try {
    copied.exec('PRAGMA journal_mode = DELETE');
    const found = copied
      .prepare('PRAGMA integrity_check(3)')
      .all()
      .map((row) => String(row.integrity_check).replaceAll('\n', ' '))
      .join('; ');
    return found === 'ok' ? undefined : found;
  } finally {
    copied.close();
  }
}

function sync(path: string): void {
  const opened = openSync(path, 'r');
  fsyncSync(opened);
  closeSync(opened);
}
