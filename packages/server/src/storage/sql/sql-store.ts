import { type Dialect, Kysely, type RawBuilder, sql } from 'kysely';
import type { Instances } from '../../domain/instance/instance.ts';
import { Problem } from '../../domain/problem.ts';
import type { Stores, Together } from '../../domain/stores.ts';
import { type Locks, sqliteLocks } from './locks.ts';
import type { Schema } from './schema.ts';
import { sqlAudit } from './sql-audit.ts';
import { sqlCredentials } from './sql-credentials.ts';
import { type GuessRows, sqlGuesses } from './sql-guesses.ts';
import { sqlInstances } from './sql-instances.ts';
import { type Leases, sqlLeases } from './sql-leases.ts';
import { sqlKeys } from './sql-keys.ts';
import { sqlSessions } from './sql-sessions.ts';
import { sqlUsers } from './sql-users.ts';
import { openSqlite } from './sqlite.ts';
import { type Patiently, type Tables, tablesOf } from './tables.ts';
import { type Transfer, transferOf } from './transfer.ts';

/** All stores on one database. */
export type SqlStore = Stores &
  Tables & {
    readonly together: Together;
    readonly instances: Instances;
    /** A number that no other store has: its name where several share a place. */
    number(): Promise<number>;
    readonly transfer: Transfer;
    /** Only of a store that several processes share; on another, all work is its one owner's. */
    readonly leases?: Leases;
    /** Whether another process has written to the store since this was last asked. Only what has one owner can say. */
    changedElsewhere?: () => boolean;
    /** After something was erased: leaves no copy of it in the files of the store, as far as readers let it. */
    checkpoint(): void;
    /** The time that all who share the store go by, epoch milliseconds. Only a store that several machines share has one. */
    time?: () => Promise<number>;
    /** Throws when the database cannot be asked. */
    ping(): Promise<void>;
    close(): Promise<void>;
  };

export function sqliteStore(file: string): SqlStore {
  const sqlite = openSqlite(file);
  return {
    ...sqlStore({
      dialect: sqlite.dialect,
      locks: sqliteLocks,
      assertThere: sqlite.assertThere,
      checkpoint: sqlite.checkpoint,
      patiently: (db) => (work) => sqlite.patiently(() => work(db)),
    }),
    changedElsewhere: sqlite.changedElsewhere,
  };
}

/** What a store asks of the database under it. */
export type Engine = {
  readonly dialect: Dialect;
  readonly locks: Locks;
  readonly patiently: (db: Kysely<Schema>) => Patiently;
  /** @throws {Problem} `unavailable` when what is written would be lost. */
  readonly assertThere?: () => void;
  readonly checkpoint?: () => void;
  /** Whether a transaction was rolled back for another's sake, and is to be tried again. */
  readonly isCollision?: (error: unknown) => boolean;
  readonly time?: RawBuilder<{ at: number }>;
};

export function sqlStore({ dialect, locks, patiently, assertThere, checkpoint, isCollision = () => false, time }: Engine): SqlStore {
  const db = new Kysely<Schema>({ dialect });
  const guessRows: GuessRows = { rows: 0, countedAt: -Infinity };

  return {
    ...stores(db, locks, guessRows),
    ...tablesOf(db, dialect, patiently(db)),
    instances: sqlInstances(db),
    number: async () => (await db.selectFrom('marks').select('value').where('name', '=', 'store').executeTakeFirstOrThrow()).value,
    transfer: transferOf(patiently(db), locks),
    async together(work) {
      for (let attempt = 1; ; attempt++) {
        try {
          return await db.transaction().execute((transaction) => {
            assertThere?.();
            return work(stores(transaction, locks, guessRows));
          });
        } catch (error) {
          if (attempt === MOST_ATTEMPTS || !isCollision(error)) throw error;
        }
      }
    },
    checkpoint: checkpoint ?? (() => {}),
    ...(time && { leases: sqlLeases(db) }),
    ...(time && { time: async () => (await time.execute(db)).rows[0]?.at ?? 0 }),
    async ping() {
      assertThere?.();
      await db.selectFrom('users').select('id').limit(1).execute();
      if (time && (await readOnly.execute(db)).rows[0]?.is === 'on') throw new Problem('unavailable', 'PostgreSQL: it takes no writes');
    },
    async close() {
      await db.destroy();
    },
  };
}

/** A replica, or set so by somebody: nobody could log in, refresh or log out. */
const readOnly = sql<{ is: string }>`select current_setting('transaction_read_only') as is`;

/** Of a transaction that another one was in the way of. */
const MOST_ATTEMPTS = 3;

const stores = (db: Kysely<Schema>, locks: Locks, guessRows: GuessRows): Stores => ({
  users: sqlUsers(db),
  credentials: sqlCredentials(db),
  sessions: sqlSessions(db, locks),
  keys: sqlKeys(db, locks),
  audit: sqlAudit(db),
  guesses: sqlGuesses(db, guessRows),
});
