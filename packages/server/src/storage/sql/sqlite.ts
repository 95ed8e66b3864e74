import { statSync } from 'node:fs';
import { DatabaseSync, type SQLInputValue } from 'node:sqlite';
import { type Dialect, SqliteDialect } from 'kysely';
import { Problem } from '../../domain/problem.ts';

/** An SQLite file, or `:memory:`, and what only SQLite can tell. */
export type Sqlite = {
  readonly dialect: Dialect;
  /** Whether another process has committed to the file since this was last asked. A few microseconds. */
  changedElsewhere(): boolean;
  /** Brings what is committed into the file itself, as far as readers let it: until then, what was overwritten is still there. */
  checkpoint(): void;
  /** @throws {Problem} `unavailable` when the file has been removed or replaced: what is written would be lost with it. */
  assertThere(): void;
  /** Work in which another process's write lock is waited for as long as that may take. */
  patiently<T>(work: () => Promise<T>): Promise<T>;
  close(): void;
};

/** Another process (the CLI) may hold the one write lock this long before a request is answered 503. */
const BUSY_MS = 2_000;

/** Of who waits for another process to have changed the tables, at the start. */
const PATIENCE_MS = 600_000;

/** WAL, so that the CLI reads and writes beside the server; `synchronous=FULL`, so that what was answered survives a crash. */
export function openSqlite(file: string): Sqlite {
  const db = new DatabaseSync(file, { timeout: BUSY_MS });
  db.exec('PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA trusted_schema = OFF; PRAGMA secure_delete = ON;');
  const dataVersion = db.prepare('PRAGMA data_version');
  const readVersion = (): unknown => dataVersion.get()?.data_version;
  let seen = readVersion();
  const opened = identityOf(file);

  return {
    dialect: withTransactionalDdl(new SqliteDialect({ database: kyselyDatabase(db) })),
    changedElsewhere() {
      const version = trouble(readVersion);
      if (version === seen) return false;
      seen = version;
      return true;
    },
    checkpoint: () => db.exec('PRAGMA wal_checkpoint(TRUNCATE)'),
    assertThere() {
      if (identityOf(file) !== opened)
        throw new Problem('unavailable', `SQLite: ${file} is not the file that was opened`, { retryAfterS: 5 });
    },
    async patiently(work) {
      db.exec(`PRAGMA busy_timeout = ${PATIENCE_MS}`);
      return work().finally(() => db.exec(`PRAGMA busy_timeout = ${BUSY_MS}`));
    },
    close: () => {
      if (db.isOpen) db.close();
    },
  };
}

/** A migration is one transaction here too, so that one that was killed has never been; Kysely would run it statement by statement. */
function withTransactionalDdl(dialect: Dialect): Dialect {
  return {
    createAdapter: () => Object.defineProperty(dialect.createAdapter(), 'supportsTransactionalDdl', { value: true }),
    createDriver: () => dialect.createDriver(),
    createQueryCompiler: () => dialect.createQueryCompiler(),
    createIntrospector: (db) => dialect.createIntrospector(db),
  };
}

function identityOf(file: string): string {
  if (file === ':memory:') return file;
  const found = statSync(file, { throwIfNoEntry: false });
  return found ? `${found.dev} ${found.ino}` : 'none';
}

/** node:sqlite in the shape that Kysely knows. Statements are kept: the queries of a server are few. */
function kyselyDatabase(db: DatabaseSync): ConstructorParameters<typeof SqliteDialect>[0]['database'] & object {
  const statements = new Map<string, ReturnType<typeof prepare>>();

  function prepare(text: string) {
    // A transaction that reads first and writes later would lose the race for the write lock halfway, so each takes it at once.
    const statement = trouble(() => db.prepare(text === 'begin' ? 'begin immediate' : text));
    return {
      reader: statement.columns().length > 0,
      all: (values: readonly unknown[]) => trouble(() => statement.all(...(values as SQLInputValue[]))), // Kysely types values as unknown; our columns are text and numbers
      // A commit for which the disk had no room has been rolled back by SQLite already.
      run: (values: readonly unknown[]) =>
        text === 'rollback' && !db.isTransaction
          ? { changes: 0, lastInsertRowid: 0 }
          : trouble(() => statement.run(...(values as SQLInputValue[]))),
      iterate: (values: readonly unknown[]) => statement.iterate(...(values as SQLInputValue[])),
    };
  }

  return {
    close: () => db.close(),
    prepare(text) {
      const known = statements.get(text);
      if (known) return known;
      const made = prepare(text);
      if (statements.size < 500) statements.set(text, made);
      return made;
    },
  };
}

/** SQLite's own troubles (locked, full, unreadable, read-only) are ours, and pass: 503, try again. */
function trouble<T>(work: () => T): T {
  try {
    return work();
  } catch (error) {
    const { errcode, errstr } = Object(error) as { errcode?: number; errstr?: string }; // what node:sqlite throws
    if (errcode === undefined || !passing.has(errcode & 0xff)) throw error;
    throw new Problem('unavailable', `SQLite: ${errstr}`, { retryAfterS: 2 });
  }
}

/** BUSY, LOCKED, READONLY, IOERR, FULL, CANTOPEN. */
const passing = new Set([5, 6, 8, 10, 13, 14]);
