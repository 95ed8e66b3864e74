import { existsSync } from 'node:fs';
import { resolve } from 'node:path';
import { Problem } from './domain/problem.ts';
import { nowAndThen } from './lib/now-and-then.ts';
import { serverLog } from './lib/server-log.ts';
import { readDatabaseTls, whyNoDatabase } from './database-tls.ts';
import { Mistake, openDatabase } from './mistake.ts';
import { showDatabase } from './settings/kinds.ts';
import type { Settings } from './settings/table.ts';
import { sqliteStore, type SqlStore } from './storage/sql/sql-store.ts';
import type { MigrationState } from './storage/sql/tables.ts';

type Where = Pick<Settings, 'database' | 'dataDir'>;

/** Where the store is, as an operator may read it: a file, or a database without its password. */
export const storeName = (where: Where): string => storeFile(where) ?? showDatabase(where.database);

/** The file of a store on SQLite, or `:memory:`; `undefined` for one on PostgreSQL. */
export function storeFile({ database, dataDir }: Where): string | undefined {
  if (database.engine !== 'sqlite') return undefined;
  return database.file === ':memory:' ? database.file : resolve(dataDir, database.file);
}

/** Whether there is nothing yet. A database is made by whoever runs it, so that is always there. */
export function isNewStore(where: Where): boolean {
  const file = storeFile(where);
  return file !== undefined && !existsSync(file);
}

/** @throws {Mistake} when a file cannot be opened; whether a database answers shows when it is first asked. */
export async function openStoreAt({ database, dataDir, databasePool, databaseTimeoutMs, databasePassword }: Settings): Promise<SqlStore> {
  if (database.engine === 'postgres') {
    const { postgresStore } = await import('./storage/sql/postgres-store.ts');
    return postgresStore({
      url: database.url,
      tls: readDatabaseTls(database.url),
      password: databasePassword,
      poolSize: databasePool,
      timeoutMs: databaseTimeoutMs,
      onBroken: nowAndThen(10_000, (error: Error) => serverLog.warn({ why: error.message }, 'a connection to the database broke')),
    });
  }
  const file = storeFile({ database, dataDir }) ?? '';
  return openDatabase(file, () => sqliteStore(file));
}

/** Of which version the tables of a store are. @throws {Mistake} where they are of a newer one than this program, or as {@link firstOf}. */
export async function tablesOfStore(where: Where, store: Pick<SqlStore, 'migrations'>): Promise<MigrationState[]> {
  const all = await firstOf(where, store.migrations());
  const newer = all.filter(({ isKnown }) => !isKnown).map(({ name }) => name);
  if (newer.length === 0) return all;
  throw new Mistake(
    `the store ${storeName(where)} is of a newer version than this program, which does not know its ${newer.join(', ')}: run that version, or put back the copy of before`,
  );
}

/** The first that is asked of a store. @throws {Mistake} that names the store, without its password, where it cannot be asked now. */
export async function firstOf<T>(where: Where, asked: Promise<T>): Promise<T> {
  try {
    return await asked;
  } catch (error) {
    if (!(error instanceof Problem) || error.code !== 'unavailable') throw error;
    throw new Mistake(`the store ${storeName(where)} cannot be asked (${error.reason}): ${whyNoDatabase(where.database, error.cause)}`);
  }
}
