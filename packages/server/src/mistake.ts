/** A reason not to go on that is the operator's to mend: a setting, a file, a port. Each line says one. */
export class Mistake extends Error {
  readonly lines: readonly string[];

  constructor(...lines: readonly string[]) {
    super(lines.join('; '));
    this.name = 'Mistake';
    this.lines = lines;
  }
}

/** Opens what SQLite has in a file; what it says of one that it cannot open, it says without the name. @throws {Mistake} */
export function openDatabase<T>(file: string, open: () => T): T {
  try {
    return open();
  } catch (error) {
    const { code, message } = Object(error) as NodeJS.ErrnoException; // what Node's own errors have
    throw code === 'ERR_SQLITE_ERROR' ? new Mistake(`the store ${file} cannot be opened: ${message}`) : error;
  }
}

/** What there is to mend, a line each: a {@link Mistake}, or what the system says of files and ports. Anything else is a fault of ours, `undefined`. */
export function mistakesOf(error: unknown): readonly string[] | undefined {
  if (error instanceof Mistake) return error.lines;
  const line = systemMistake(error);
  return line === undefined ? undefined : [line];
}

function systemMistake(error: unknown): string | undefined {
  const { code, path, port, address, message } = Object(error) as NodeJS.ErrnoException & { port?: number; address?: string }; // what Node's own errors have
  switch (code) {
    case 'EADDRINUSE':
      return `port ${port} on ${address} is taken by another process: stop that one, or set another PORTCULLIS_PORT (or PORTCULLIS_ADMIN_LISTEN)`;
    case 'EADDRNOTAVAIL':
      return `${address} is no address of this machine: set another PORTCULLIS_HOST`;
    case 'EACCES':
    case 'EPERM':
    case 'EROFS':
      return path
        ? `${path} may not be read or written by this user`
        : `port ${port} may not be opened by this user: choose one above 1023`;
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
