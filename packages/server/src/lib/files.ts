import { mkdirSync, openSync, closeSync, fsyncSync, readFileSync, renameSync, writeSync } from 'node:fs';

/** A folder for secrets: only its owner may look inside. */
export const ownFolder = (path: string): void => void mkdirSync(path, { recursive: true, mode: 0o700 });

export const readText = (path: string): string => readFileSync(path, 'utf8');

/** A whole file or none, for its owner alone. */
export function writePrivately(path: string, text: string): void {
  const half = `${path}.new`;
  const file = openSync(half, 'w', 0o600);
  writeSync(file, text);
  fsyncSync(file);
  closeSync(file);
  renameSync(half, path);
}
