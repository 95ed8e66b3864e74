import { type RawBuilder, sql } from 'kysely';

/** What keeps others from what a transaction has read. Where only one transaction writes at a time, nothing is needed. */
export type Locks = {
  /** At the end of a select: the rows that it found stay as they are until the transaction ends. */
  readonly rows: RawBuilder<unknown>;
  /** A statement of its own, the first: nobody else writes to the table of keys until the transaction ends. */
  readonly keys: RawBuilder<unknown> | undefined;
};

export const sqliteLocks: Locks = { rows: sql``, keys: undefined };

export const postgresLocks: Locks = { rows: sql`for update`, keys: sql`lock table keys in share row exclusive mode` };
