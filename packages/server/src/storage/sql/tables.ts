import { type Dialect, DummyDriver, Kysely } from 'kysely';
import { Migrator } from 'kysely/migration';
import { migrations } from './migrations.ts';
import type { Schema } from './schema.ts';

/** The tables of a store, as versions of this program have made and changed them. */
export type Tables = {
  /** Brings them up to this version; says which migrations were run. Of several processes at once one does, the others wait. */
  migrate(): Promise<string[]>;
  /** By name, with the time it was run; one that this version does not know is of a newer one. */
  migrations(): Promise<MigrationState[]>;
  /** What `migrate` would run now, statement by statement. Nothing is changed for it. */
  plan(): Promise<{ readonly name: string; readonly statement: string }[]>;
};

export type MigrationState = { readonly name: string; readonly ranAt: Date | undefined; readonly isKnown: boolean };

/** Work that may take its time, on a connection that nobody waits for. */
export type Patiently = <T>(work: (db: Kysely<Schema>) => Promise<T>) => Promise<T>;

export function tablesOf(db: Kysely<Schema>, dialect: Dialect, patiently: Patiently): Tables {
  const migratorOn = (connected: Kysely<Schema>): Migrator =>
    new Migrator({ db: connected, provider: { getMigrations: () => Promise.resolve(migrations) } });
  const migrator = migratorOn(db);

  async function states(): Promise<MigrationState[]> {
    const known = (await migrator.getMigrations()).map(({ name, executedAt }) => ({ name, ranAt: executedAt, isKnown: true }));
    if (known.every(({ ranAt }) => ranAt === undefined)) return known; // then there may be no record to read
    const record = db.withTables<{ kysely_migration: { name: string; timestamp: string } }>();
    const ran = await record.selectFrom('kysely_migration').select(['name', 'timestamp']).orderBy('name').execute();
    const unknown = ran.filter(({ name }) => !Object.hasOwn(migrations, name));
    return [...known, ...unknown.map(({ name, timestamp }) => ({ name, ranAt: new Date(timestamp), isKnown: false }))];
  }

  return {
    migrations: states,

    async migrate() {
      const { error, results = [] } = await patiently((connected) => migratorOn(connected).migrateToLatest());
      if (error) throw error;
      return results.map(({ migrationName }) => migrationName);
    },

    async plan() {
      const due = (await states()).filter(({ ranAt }) => ranAt === undefined);
      const planned = await Promise.all(due.map(({ name }) => statementsOf(name, dialect).then((all) => ({ name, all }))));
      return planned.flatMap(({ name, all }) => all.map((statement) => ({ name, statement })));
    },
  };
}

/** Runs one on a database that takes every statement and does nothing. */
async function statementsOf(name: string, dialect: Dialect): Promise<string[]> {
  const statements: string[] = [];
  const db = new Kysely<unknown>({
    dialect: {
      createAdapter: () => dialect.createAdapter(),
      createQueryCompiler: () => dialect.createQueryCompiler(),
      createIntrospector: (any) => dialect.createIntrospector(any),
      createDriver: () => new DummyDriver(),
    },
    log: ({ query }) => void statements.push(query.sql),
  });
  await migrations[name]?.up(db);
  return statements;
}
