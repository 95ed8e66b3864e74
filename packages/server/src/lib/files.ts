import { closeSync, fsyncSync, mkdirSync, openSync, readFileSync, renameSync, rmSync, writeSync } from 'node:fs';

/** A folder for secrets: only its owner may look inside. */
export const ownFolder = (path: string): void => void mkdirSync(path, { recursive: true, mode: 0o700 });

export const readText = (path: string): string => readFileSync(path, 'utf8');

/** A whole file or none, on the disk when this returns, for its owner alone. */
export function writePrivately(path: string, text: string): void {
  const draft = `${path}.new`;
  // A draft may be left from a start that was killed. `wx` follows no link and never inherits another file's mode.
  rmSync(draft, { force: true });
  const file = openSync(draft, 'wx', 0o600);
  try {
    writeSync(file, text);
    fsyncSync(file);
  } finally {
    closeSync(file);
  }
  renameSync(draft, path);
}
