import { Kysely } from 'kysely';
import { Migrator } from 'kysely/migration';
import type { Stores, Together } from '../../domain/stores.ts';
import { migrations } from './migrations.ts';
import type { Schema } from './schema.ts';
import { sqlAudit } from './sql-audit.ts';
import { sqlCredentials } from './sql-credentials.ts';
import { sqlGuesses } from './sql-guesses.ts';
import { sqlKeys } from './sql-keys.ts';
import { sqlSessions } from './sql-sessions.ts';
import { sqlUsers } from './sql-users.ts';
import { openSqlite } from './sqlite.ts';

/** All stores on one database. */
export type SqlStore = Stores & {
  readonly together: Together;
  /** Brings the tables up to this version; says which migrations were run. */
  migrate(): Promise<string[]>;
  /** By name, with the time it was run. */
  migrations(): Promise<{ name: string; ranAt: Date | undefined }[]>;
  changedElsewhere(): boolean;
  /** After something was erased: leaves no copy of it in the files of the store, as far as readers let it. */
  checkpoint(): void;
  /** Throws when the database cannot be asked. */
  ping(): Promise<void>;
  close(): Promise<void>;
};

export function sqliteStore(file: string): SqlStore {
  const sqlite = openSqlite(file);
  const db = new Kysely<Schema>({ dialect: sqlite.dialect });
  const migrator = new Migrator({ db, provider: { getMigrations: () => Promise.resolve(migrations) } });

  return {
    ...stores(db),
    together: (work) =>
      db.transaction().execute((transaction) => {
        sqlite.assertThere();
        return work(stores(transaction));
      }),
    async migrate() {
      const { error, results = [] } = await migrator.migrateToLatest();
      if (error) throw error;
      return results.map(({ migrationName }) => migrationName);
    },
    migrations: async () => (await migrator.getMigrations()).map(({ name, executedAt }) => ({ name, ranAt: executedAt })),
    changedElsewhere: sqlite.changedElsewhere,
    checkpoint: sqlite.checkpoint,
    async ping() {
      sqlite.assertThere();
      await db.selectFrom('users').select('id').limit(1).execute();
    },
    async close() {
      await db.destroy();
    },
  };
}

const stores = (db: Kysely<Schema>): Stores => ({
  users: sqlUsers(db),
  credentials: sqlCredentials(db),
  sessions: sqlSessions(db),
  keys: sqlKeys(db),
  audit: sqlAudit(db),
  guesses: sqlGuesses(db),
});
