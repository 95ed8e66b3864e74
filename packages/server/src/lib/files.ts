import { closeSync, constants, fsyncSync, mkdirSync, openSync, readFileSync, renameSync, rmSync, writeSync } from 'node:fs';
import { open } from 'node:fs/promises';

/** A folder for secrets: only its owner may look inside. */
export const ownFolder = (path: string): void => void mkdirSync(path, { recursive: true, mode: 0o700 });

export const readText = (path: string): string => readFileSync(path, 'utf8');

/** The text of a regular file, whoever may write to its folder: no pipe is waited for. @throws EFBIG, EISDIR or what the system says. */
export async function readBounded(path: string, maxBytes: number): Promise<string> {
  await using file = await open(path, constants.O_RDONLY | constants.O_NONBLOCK);
  const stat = await file.stat();
  if (stat.isDirectory()) throw Object.assign(new Error('a folder'), { code: 'EISDIR' });
  if (!stat.isFile() || stat.size > maxBytes) throw Object.assign(new Error('no file of this size'), { code: 'EFBIG' });
  const { buffer, bytesRead } = await file.read(Buffer.alloc(stat.size), 0, stat.size, 0);
  return buffer.toString('utf8', 0, bytesRead);
}

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
