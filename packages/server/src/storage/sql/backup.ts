import { closeSync, fsyncSync, openSync, renameSync, rmSync, statSync } from 'node:fs';
import { dirname } from 'node:path';
import { backup, DatabaseSync } from 'node:sqlite';

const PAGES_A_STEP = 500;

/**
 * Copies an SQLite store as it is at this moment into a new file, while its server goes on. `to` is there at the end,
 * whole, checked and on the disk, or not at all; a process that is killed leaves it empty.
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
  const make = (file: string): void => {
    closeSync(openSync(file, 'wx', 0o600));
    made.defer(() => rmSync(file, { force: true }));
  };
  const half = `${to}.part`;
  make(to); // the name is ours from here on
  make(half);
  await copy(from, half, onStep);
  const damage = damageOf(half);
  if (damage !== undefined) return { damage };
  sync(half);
  renameSync(half, to);
  sync(dirname(to));
  made.move(); // what was made stays
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
