import { accessSync, constants, existsSync } from 'node:fs';
import { dirname } from 'node:path';

/** A reason not to go on that is the operator's to mend: a setting, a file, a port. Each line says one. */
export class Mistake extends Error {
  readonly lines: readonly string[];

  constructor(...lines: readonly string[]) {
    super(lines.join('; '));
    this.name = 'Mistake';
    this.lines = lines;
  }
}

/** Opens a file that a setting names, and makes it where it is missing. @throws {Mistake} that says the setting. */
export function openSet<T>(setting: string, file: string, open: () => T): T {
  try {
    return open();
  } catch (error) {
    const line = Object(error).code === 'ENOENT' ? `${file}: its folder is not there` : systemMistake(error);
    throw line === undefined ? error : new Mistake(`${setting}: ${line}`);
  }
}

/** Opens a port. @param by the settings that chose it. @throws {Mistake} that says which of them to change. */
export async function openPort<T>(by: { readonly host: string; readonly port: string }, open: () => Promise<T>): Promise<T> {
  try {
    return await open();
  } catch (error) {
    const { code, address, port } = Object(error) as { code?: string; address?: string; port?: number }; // what Node's own errors have
    switch (code) {
      case 'EADDRINUSE':
        throw new Mistake(`port ${port} on ${address} is taken by another process: stop that one, or set another ${by.port}`);
      case 'EADDRNOTAVAIL':
      case 'EAFNOSUPPORT':
        throw new Mistake(`${address} is no address of this machine: set another ${by.host}`);
      case 'ENOTSUP':
        throw new Mistake('this system does not share a port among processes: leave PORTCULLIS_WORKERS out');
      case 'EACCES':
        throw new Mistake(`port ${port} may not be opened by this user: set ${by.port} to one above 1023`);
      case undefined:
      default:
        throw error;
    }
  }
}

/** Opens what SQLite has in a file; what it says of one that it cannot open, it says without the name and without the reason. @throws {Mistake} */
export function openDatabase<T>(file: string, open: () => T): T {
  try {
    return open();
  } catch (error) {
    const { code, message } = Object(error) as NodeJS.ErrnoException; // what Node's own errors have
    throw code === 'ERR_SQLITE_ERROR' ? new Mistake(`the store ${file} cannot be opened: ${whyShut(file) ?? message}`) : error;
  }
}

function whyShut(file: string): string | undefined {
  const folder = dirname(file);
  if (!existsSync(folder)) return `the folder ${folder} is not there`;
  return [folder, file].filter((path) => existsSync(path) && !isWritable(path)).map((path) => `${path} may not be written by this user`)[0];
}

function isWritable(path: string): boolean {
  try {
    accessSync(path, constants.R_OK | constants.W_OK);
    return true;
  } catch {
    return false;
  }
}

/** What there is to mend, a line each: a {@link Mistake}, or what the system says of files. Anything else is a fault of ours, `undefined`. */
export function mistakesOf(error: unknown): readonly string[] | undefined {
  if (error instanceof Mistake) return error.lines;
  const line = systemMistake(error);
  return line === undefined ? undefined : [line];
}

function systemMistake(error: unknown): string | undefined {
  const { code, path, message } = Object(error) as NodeJS.ErrnoException; // what Node's own errors have
  switch (code) {
    case 'EACCES':
    case 'EPERM':
    case 'EROFS':
      return path && `${path} may not be read or written by this user`;
    case 'ENXIO':
      return `${path} is a pipe that nobody reads`;
    case 'ENOENT':
      return `${path} is not there`;
    case 'ENOTDIR':
    case 'EISDIR':
    case 'EEXIST':
      return `${path} is not what it should be (${code})`;
    case 'ENOSPC':
    case 'EDQUOT':
      return 'there is no room left on the disk';
    case 'ERR_SQLITE_ERROR':
      return `the store cannot be used: ${message}`;
    case undefined:
    default:
      return undefined;
  }
}
