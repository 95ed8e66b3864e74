import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { setTimeout as wait } from 'node:timers/promises';
import { pathToFileURL } from 'node:url';
import pg from 'pg';
import { migrations } from '../packages/server/src/storage/sql/migrations.ts';
import { sqliteStore } from '../packages/server/src/storage/sql/sql-store.ts';
import { without } from './support/needs.ts';
import { isPostgresHere, type Postgres, startPostgres } from './support/postgres.ts';
import { type Ending, folderFor, runCommand } from './support/program.ts';

const names = Object.keys(migrations);
const source = (path: string): string => pathToFileURL(join(import.meta.dirname, '../packages/server/src', path)).href;

let postgres: Postgres | undefined;
before(async () => {
  if (isPostgresHere) postgres = await startPostgres();
});
after(() => postgres?.stop());

/** A new, empty place for a store, on each engine. */
const engines: Record<string, (t: Ending) => Promise<string>> = {
  SQLite: async (t) => `sqlite:${join(folderFor(t), 'store.db')}`,
  PostgreSQL: async () => (await postgres?.newDatabase()) ?? '',
};

const run = (url: string, args: readonly string[], settings: Record<string, string> = {}) =>
  runCommand(['migrate', ...args], { env: { PORTCULLIS_DATA_DIR: '/nowhere/at/all', PORTCULLIS_DATABASE_URL: url, ...settings } });
const jsonOf = async (url: string, ...args: string[]): Promise<any> => {
  const { code, stdout, stderr } = await run(url, ['--json', ...args]);
  assert.equal(code, 0, stderr);
  return JSON.parse(stdout);
};

for (const [engine, newPlace] of Object.entries(engines)) {
  const skip = engine === 'PostgreSQL' && without('PostgreSQL', isPostgresHere);

  describe(`migrate, ${engine}`, { skip }, () => {
    test('of several at once one does it all, the others wait and have nothing left to do', async (t) => {
      const url = await newPlace(t);
      const ran: { name: string }[][] = await Promise.all(Array.from({ length: 4 }, () => jsonOf(url, '--data-dir', folderFor(t))));
      assert.deepEqual(
        ran.map((all) => all.map(({ name }) => name)).toSorted((a, b) => b.length - a.length),
        [names, [], [], []],
      );
    });

    test('killed in the middle, wherever that is, it has never been, and is done by the next', async (t) => {
      const url = await newPlace(t);
      for (const name of names) {
        const { signal, tables } = await killedIn(name, url);
        assert.equal(signal, 'SIGKILL');
        assert.deepEqual(tables, [], name);
      }
      assert.equal((await jsonOf(url, '--data-dir', folderFor(t))).length, names.length);
      const status = await jsonOf(url, '--status', '--data-dir', folderFor(t));
      assert.deepEqual([...new Set(status.map(({ state }: { state: string }) => state))], ['run']);
    });

    test('the plan is all the statements, and running it is what changes something', async (t) => {
      const url = await newPlace(t);
      const file = /^sqlite:(.*)/.exec(url)?.[1];
      if (file !== undefined) await sqliteStore(file).close(); // one without tables
      const looked = async () => (file === undefined ? tablesOf(url) : readFileSync(file));
      const before = await looked();
      const plan: { name: string; statement: string }[] = await jsonOf(url, '--plan');
      assert.deepEqual([...new Set(plan.map(({ name }) => name))], names);
      assert.ok(plan.some(({ statement }) => statement.startsWith('create table "users" ("id" text')));
      assert.ok(plan.some(({ statement }) => statement.startsWith('insert into marks')));
      const { code, stdout } = await run(url, ['--plan']);
      assert.equal(code, 0);
      assert.match(
        stdout,
        /^-- 0001_first\ncreate table "users"[^]*;\n\n-- 0002_compromised_keys\nalter table "keys" add column "compromised_at" bigint;\n/,
      );
      assert.deepEqual(
        (await jsonOf(url, '--status')).map(({ state }: { state: string }) => state),
        names.map(() => 'due'),
      );
      assert.deepEqual(await looked(), before);

      await jsonOf(url, '--data-dir', folderFor(t));
      assert.deepEqual(await jsonOf(url, '--plan'), []);
      assert.match((await run(url, ['--plan'])).stdout, /up to date/);
    });

    test('a store of a newer version is left alone, by every command', async (t) => {
      const url = await newPlace(t);
      await jsonOf(url, '--data-dir', folderFor(t));
      await sqlOn(url, `insert into kysely_migration (name, timestamp) values ('9999_flying', '2030-01-01T00:00:00.000Z')`);
      for (const args of [[], ['--status'], ['--plan']]) {
        const { code, stdout, stderr } = await run(url, args);
        assert.deepEqual([code, stdout], [2, ''], stderr);
        assert.match(stderr, /of a newer version than this program, which does not know its 9999_flying/);
      }
    });
  });
}

test('who waits for another to migrate waits longer than for an answer', { skip: without('PostgreSQL', isPostgresHere) }, async (t) => {
  const url = (await postgres?.newDatabase()) ?? '';
  const other = new pg.Client(url);
  await other.connect();
  t.after(() => other.end());
  await other.query('select pg_advisory_lock(3853314791062309107)'); // Kysely's, for whoever migrates
  const waiting = run(url, ['--json', '--data-dir', folderFor(t)], { PORTCULLIS_DATABASE_TIMEOUT: '200 ms' });
  assert.equal(await Promise.race([waiting, wait(2_000, 'still waiting')]), 'still waiting');
  await other.query('select pg_advisory_unlock_all()');
  const { code, stdout, stderr } = await waiting;
  assert.equal(code, 0, stderr);
  assert.equal(JSON.parse(stdout).length, names.length);
});

test('an older store is brought up to this version, and what it held stays', async (t) => {
  const folder = folderFor(t);
  const url = `sqlite:${join(folder, 'older.db')}`;
  await sqliteStore(join(folder, 'older.db')).close();
  const plan: { name: string; statement: string }[] = await jsonOf(url, '--plan');
  const ofThen = names.slice(0, 4);
  for (const { statement } of plan.filter(({ name }) => ofThen.includes(name))) await sqlOn(url, statement);
  await sqlOn(url, 'create table kysely_migration (name varchar(255) not null primary key, timestamp varchar(255) not null)');
  for (const [i, name] of ofThen.entries())
    await sqlOn(url, `insert into kysely_migration values ('${name}', '2026-01-01T00:00:00.00${i}Z')`);
  await sqlOn(url, "insert into users values ('usr_1', 'anna', 'anna', 1, null, 0)");

  const { code, stderr } = await runCommand(['users', 'list'], { env: { PORTCULLIS_DATA_DIR: folder, PORTCULLIS_DATABASE_URL: url } });
  assert.equal(code, 2);
  assert.match(stderr, /not of this version: "portcullis migrate"/);
  const ran: { name: string }[] = await jsonOf(url, '--data-dir', folder);
  assert.deepEqual(
    ran.map(({ name }) => name),
    names.slice(4),
  );
  const store = sqliteStore(join(folder, 'older.db'));
  t.after(() => store.close());
  assert.equal((await store.users.find('usr_1'))?.username, 'anna');
});

/** A process that migrates, and is killed once this migration has run and before that is on record; and which tables are there then. */
async function killedIn(name: string, url: string): Promise<{ signal: unknown; tables: string[] }> {
  const script = `
    import { migrations } from '${source('storage/sql/migrations.ts')}';
    import { postgresStore } from '${source('storage/sql/postgres-store.ts')}';
    import { sqliteStore } from '${source('storage/sql/sql-store.ts')}';
    const { up } = migrations['${name}'];
    migrations['${name}'].up = async (db) => { await up(db); process.kill(process.pid, 'SIGKILL'); await new Promise(() => {}); };
    const url = '${url}';
    const file = /^sqlite:(.*)/.exec(url)?.[1];
    await (file ? sqliteStore(file) : postgresStore({ url, poolSize: 1, timeoutMs: 5000 })).migrate();`;
  const child = spawn(process.execPath, ['--input-type=module', '--eval', script], { stdio: 'ignore' });
  const [, signal] = await once(child, 'close');
  return { signal, tables: (await tablesOf(url)).filter((table) => !table.startsWith('kysely')) };
}

const tablesOf = async (url: string): Promise<string[]> =>
  (
    await sqlOn(
      url,
      url.startsWith('sqlite:')
        ? "select name from sqlite_schema where type = 'table' order by name"
        : "select tablename as name from pg_tables where schemaname = 'public' order by tablename",
    )
  ).map(({ name }) => String(name));

async function sqlOn(url: string, text: string): Promise<Record<string, unknown>[]> {
  const file = /^sqlite:(.*)/.exec(url)?.[1];
  if (file === undefined) {
    const db = new pg.Client(url);
    await db.connect();
    const { rows } = await db.query(text);
    await db.end();
    return rows;
  }
  const { DatabaseSync } = await import('node:sqlite');
  const db = new DatabaseSync(file, { timeout: 2_000 });
  try {
    return text === '' ? [] : db.prepare(text).all();
  } finally {
    db.close();
  }
}
