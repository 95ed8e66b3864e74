import { Kysely, sql } from 'kysely';
import { postgresLocks } from './locks.ts';
import { isCollision, openPostgres, type PostgresOptions } from './postgres.ts';
import type { Schema } from './schema.ts';
import { type SqlStore, sqlStore } from './sql-store.ts';
import type { Patiently } from './tables.ts';

/** All stores on a PostgreSQL. In a file of its own, for who has none need not read its driver. */
export function postgresStore(options: PostgresOptions): SqlStore {
  const time = sql<{ at: number }>`select cast(extract(epoch from clock_timestamp()) * 1000 as bigint) as at`;
  const patiently: Patiently = async (work) => {
    const db = new Kysely<Schema>({ dialect: openPostgres({ ...options, poolSize: 1, statementMs: PATIENCE_MS }).dialect });
    try {
      return await work(db);
    } finally {
      await db.destroy();
    }
  };
  return sqlStore({ dialect: openPostgres(options).dialect, locks: postgresLocks, patiently: () => patiently, isCollision, time });
}

/** Of changing a great table, or waiting for whoever does. */
const PATIENCE_MS = 3_600_000;
