import { type Kysely, sql } from 'kysely';
import type { Locks } from './locks.ts';
import type { Schema } from './schema.ts';
import type { Patiently } from './tables.ts';

/** What a store is made of, table by table, with the columns that tell its rows apart. Who lives now, and whose turn it is, is not. */
const keys = {
  users: ['id'],
  credentials: ['user_id', 'kind'],
  sessions: ['id'],
  keys: ['kid'],
  marks: ['name'],
  audit: ['id'],
  guesses: ['key'],
} as const satisfies Record<Exclude<keyof Schema, 'instances' | 'leases'>, readonly string[]>;

export type TableName = keyof typeof keys;
export const tableNames = Object.keys(keys) as readonly TableName[]; // those of the object above

export type StoredRow = Readonly<Record<string, unknown>>;

/** A store as rows, to be read whole at one moment, or filled in one go. */
export type Transfer = {
  /** All that is read in `work` is of one moment. */
  reading<T>(work: (from: RowReader) => Promise<T>): Promise<T>;
  /** All that is written in `work` is there afterwards, or nothing where it throws or its process dies. Meanwhile nobody else adds keys. */
  filling<T>(work: (to: RowWriter) => Promise<T>): Promise<T>;
};

export type RowReader = {
  count(table: TableName): Promise<number>;
  /** The next rows by their key, behind that of `last`; fewer than `limit` are the last ones. */
  next(table: TableName, last: StoredRow | undefined, limit: number): Promise<readonly StoredRow[]>;
};

export type RowWriter = Pick<RowReader, 'count'> & {
  /** Adds them as they are; a mark that is there takes the value of the new one. */
  add(table: TableName, rows: readonly StoredRow[]): Promise<void>;
};

export function transferOf(patiently: Patiently, locks: Locks): Transfer {
  return {
    reading: (work) =>
      patiently((db) =>
        db
          .transaction()
          .setIsolationLevel('repeatable read')
          .execute((transaction) => work(readerOf(transaction))),
      ),
    filling: (work) =>
      patiently((db) =>
        db.transaction().execute(async (transaction) => {
          await locks.keys?.execute(transaction);
          return work(writerOf(transaction));
        }),
      ),
  };
}

function readerOf(db: Kysely<Schema>): RowReader {
  return {
    count: (table) => count(db, table),
    async next(table, last, limit) {
      const key = sql.join(keys[table].map((column) => sql.ref(column)));
      const behind = last ? sql`where (${key}) > (${sql.join(keys[table].map((column) => last[column]))})` : sql``;
      return (await sql<StoredRow>`select * from ${sql.table(table)} ${behind} order by ${key} limit ${limit}`.execute(db)).rows;
    },
  };
}

function writerOf(db: Kysely<Schema>): RowWriter {
  return {
    count: (table) => count(db, table),
    async add(table, rows) {
      const [first] = rows;
      if (!first) return;
      const columns = Object.keys(first);
      const values = sql.join(rows.map((row) => sql`(${sql.join(columns.map((column) => row[column]))})`));
      const over = table === 'marks' ? sql`on conflict (name) do update set value = excluded.value` : sql``;
      await sql`insert into ${sql.table(table)} (${sql.join(columns.map((column) => sql.ref(column)))}) values ${values} ${over}`.execute(
        db,
      );
    },
  };
}

async function count(db: Kysely<Schema>, table: TableName): Promise<number> {
  const { rows } = await sql<{ rows: number }>`select count(*) as rows from ${sql.table(table)}`.execute(db);
  return Number(rows[0]?.rows);
}
