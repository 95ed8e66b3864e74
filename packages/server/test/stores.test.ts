import assert from 'node:assert/strict';
import { once } from 'node:events';
import { copyFileSync, mkdtempSync, renameSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import net from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { after, suite, test, type TestContext } from 'node:test';
import { Kysely, sql } from 'kysely';
import pg from 'pg';
import { auditConformance } from '../src/domain/audit/conformance.ts';
import { credentialsConformance } from '../src/domain/credential/conformance.ts';
import { guessesConformance } from '../src/domain/guess/conformance.ts';
import { instancesConformance } from '../src/domain/instance/conformance.ts';
import { keysConformance } from '../src/domain/key/conformance.ts';
import { sessionsConformance } from '../src/domain/session/conformance.ts';
import { usersConformance } from '../src/domain/user/conformance.ts';
import { lockForServer } from '../src/storage/sql/server-lock.ts';
import { postgresStore } from '../src/storage/sql/postgres-store.ts';
import { sqliteStore, type SqlStore } from '../src/storage/sql/sql-store.ts';
import { openSqlite } from '../src/storage/sql/sqlite.ts';
import { without } from '../../../test/support/needs.ts';
import { isPostgresHere, startPostgres } from '../../../test/support/postgres.ts';

/** One line for each engine. */
const engines: Record<string, (t: TestContext) => Promise<SqlStore>> = {
  'SQLite in memory': (t) => opened(t, sqliteStore(':memory:')),
  'SQLite in a file': (t) => opened(t, sqliteStore(fileFor(t))),
  ...(isPostgresHere && { PostgreSQL: emptied }),
};

const skip = without('PostgreSQL', isPostgresHere);
const postgres = skip ? undefined : await startPostgres();
const url = (await postgres?.newDatabase()) ?? '';
const shared = skip ? undefined : postgresStore({ url, poolSize: 10, timeoutMs: 5_000 });
await shared?.migrate();
after(async () => {
  await shared?.close();
  await postgres?.stop();
});

/** One database for all tests, which have it one after the other: making one takes a quarter of a second. */
async function emptied(): Promise<SqlStore> {
  const db = new pg.Client(url);
  await db.connect();
  const { rows } = await db.query("select tablename from pg_tables where schemaname = 'public' and tablename not like 'kysely%'");
  const tables = rows.map(({ tablename }) => tablename).filter((name) => name !== 'marks');
  await db.query(`truncate ${tables.join(', ')}`);
  await db.end();
  if (!shared) throw new Error('no PostgreSQL here');
  return shared;
}

for (const [engine, make] of Object.entries(engines)) {
  usersConformance(`users, ${engine}`, make);
  credentialsConformance(`credentials, ${engine}`, make);
  sessionsConformance(`sessions, ${engine}`, make);
  keysConformance(`keys, ${engine}`, make);
  auditConformance(`audit, ${engine}`, make);
  guessesConformance(`guesses, ${engine}`, make);
  instancesConformance(`instances, ${engine}`, make);
}

suite('SQLite alone', () => {
  test('tells what others have written, never what it wrote itself', async (t) => {
    const file = fileFor(t);
    const [server, cli] = [await opened(t, sqliteStore(file)), await opened(t, sqliteStore(file))];
    await server.users.add({ id: 'usr_1', username: 'anna', createdAt: 1, disabledAt: undefined, isDemo: false });
    await server.together(({ users }) => users.setDisabled('usr_1', 1));
    assert.equal(server.changedElsewhere?.(), false);
    assert.equal(cli.changedElsewhere?.(), true);
    assert.equal(cli.changedElsewhere?.(), false);
    await cli.users.setDisabled('usr_1', undefined);
    assert.equal(server.changedElsewhere?.(), true);
    assert.equal(server.changedElsewhere?.(), false);
  });

  test('a store that another process keeps locked is 503, and forgotten once it is free', async (t) => {
    const file = fileFor(t);
    const store = await opened(t, sqliteStore(file));
    const other = new DatabaseSync(file, { timeout: 0 });
    t.after(() => other.close());
    const add = () =>
      store.together(({ users }) => users.add({ id: 'usr_1', username: 'anna', createdAt: 1, disabledAt: undefined, isDemo: false }));
    other.exec('BEGIN IMMEDIATE');
    await assert.rejects(add(), { code: 'unavailable' });
    other.exec('ROLLBACK');
    await add();
    assert.equal((await store.users.list({ limit: 10 })).length, 1);
  });

  test('a store whose file is removed or replaced takes no more writes: they would be lost with it', async (t) => {
    const file = fileFor(t);
    const store = await opened(t, sqliteStore(file));
    const add = (name: string) =>
      store.together(({ users }) => users.add({ id: `usr_${name}`, username: name, createdAt: 1, disabledAt: undefined, isDemo: false }));
    await add('anna');
    await store.ping();
    renameSync(file, `${file}.away`);
    await assert.rejects(add('berta'), { code: 'unavailable' });
    await assert.rejects(store.ping(), { code: 'unavailable' });
    copyFileSync(`${file}.away`, file);
    await assert.rejects(add('berta'), { code: 'unavailable' });
    rmSync(file);
    renameSync(`${file}.away`, file);
    await add('berta');
    assert.equal((await store.users.list({ limit: 10 })).length, 2);
  });

  test("a store's lock is one, by whatever link the store is named; a broken lock file is told apart", async (t) => {
    const file = fileFor(t);
    await opened(t, sqliteStore(file));
    const link = `${fileFor(t)}.link`;
    symlinkSync(file, link);
    const unlock = lockForServer(file);
    assert.ok(unlock);
    assert.equal(lockForServer(link), undefined);
    unlock();
    const again = lockForServer(link);
    assert.ok(again);
    again();
    const early = [`${fileFor(t)}.1`, `${fileFor(t)}.2`].map((name) => {
      symlinkSync(`${file}.not-yet`, name); // a store that is still to be made
      return lockForServer(name);
    });
    assert.ok(early[0]);
    assert.equal(early[1], undefined);
    early[0]();
    writeFileSync(`${file}.lock`, 'x'.repeat(5_000));
    assert.throws(() => lockForServer(file), { code: 'ERR_SQLITE_ERROR' });
  });

  test('a disk without room is 503 and leaves nothing', async (t) => {
    const db = new Kysely<{ notes: { text: string } }>({ dialect: openSqlite(fileFor(t)).dialect });
    t.after(() => db.destroy());
    await sql`create table notes (text text)`.execute(db);
    await sql`pragma max_page_count = 6`.execute(db);
    const add = (text: string) =>
      db.transaction().execute(async (transaction) => {
        await transaction.insertInto('notes').values({ text: 'first' }).execute();
        await transaction.insertInto('notes').values({ text }).execute();
      });
    await assert.rejects(add('x'.repeat(100_000)), { code: 'unavailable' });
    assert.deepEqual(await db.selectFrom('notes').selectAll().execute(), []);
    await add('short');
    assert.equal((await db.selectFrom('notes').selectAll().execute()).length, 2);
  });
});

suite('PostgreSQL alone', { skip }, () => {
  const user = (name: string) => ({ id: `usr_${name}`, username: name, createdAt: 1, disabledAt: undefined, isDemo: false });

  test("of two transactions in each other's way, the one that is rolled back is done again", async () => {
    const store = await emptied();
    for (const name of ['a', 'b']) await store.users.add(user(name));
    const both = [Promise.withResolvers<void>(), Promise.withResolvers<void>()] as const;
    let runs = 0;
    const inTurn = (first: string, second: string, mine: 0 | 1) =>
      store.together(async ({ users }) => {
        runs += 1;
        await users.setDisabled(`usr_${first}`, mine);
        both[mine].resolve();
        await both[1 - mine]?.promise;
        await users.setDisabled(`usr_${second}`, mine);
      });
    await Promise.all([inTurn('a', 'b', 0), inTurn('b', 'a', 1)]);
    assert.equal(runs, 3);
  });

  test('what it cannot do now is 503: read-only, a lock that is not had in time; a fault of ours stays one', async () => {
    const store = await emptied();
    await store.users.add(user('a'));
    const db = new pg.Client(url);
    await db.connect();
    await db.query('begin; lock table users in access exclusive mode');
    const impatient = postgresStore({ url, poolSize: 1, timeoutMs: 200 });
    await assert.rejects(impatient.users.find('usr_a'), { code: 'unavailable' });
    await db.query('rollback');
    assert.equal((await impatient.users.find('usr_a'))?.username, 'a');
    await assert.rejects(
      impatient.together(async ({ users }) => {
        await users.setDisabled('usr_a', 1);
        throw new Error('mine');
      }),
      { message: 'mine' },
    );
    await impatient.close();
    await db.query(`alter database ${new URL(url).pathname.slice(1)} set default_transaction_read_only = on`);
    const reader = postgresStore({ url, poolSize: 1, timeoutMs: 1_000 });
    await assert.rejects(reader.users.add(user('b')), { code: 'unavailable' });
    await assert.rejects(reader.ping(), { code: 'unavailable', reason: 'PostgreSQL: it takes no writes' });
    assert.equal((await reader.users.find('usr_a'))?.disabledAt, undefined);
    await reader.close();
    await db.query(`alter database ${new URL(url).pathname.slice(1)} reset default_transaction_read_only`);
    await db.end();
    await assert.rejects(store.users.add(user('a')), { code: 'username_taken' });
  });

  test('a connection that is cut while it is in use is 503, and not the end of the process', async (t) => {
    await (await emptied()).users.add(user('a'));
    const { port } = new URL(url);
    const lines = new Set<net.Socket>();
    const relay = net.createServer((client) => {
      const server = net.connect(Number(port), '127.0.0.1');
      for (const [one, other] of [
        [client, server],
        [server, client],
      ] as const) {
        lines.add(one);
        one.pipe(other);
        one.on('error', () => {});
      }
    });
    relay.listen(0, '127.0.0.1');
    await once(relay, 'listening');
    t.after(() => relay.close());
    const through = new URL(url);
    through.port = String((relay.address() as net.AddressInfo).port); // it listens on TCP
    const store = postgresStore({ url: through.href, poolSize: 2, timeoutMs: 2_000 });
    t.after(() => store.close());
    await assert.rejects(
      store.together(async ({ users }) => {
        await users.setDisabled('usr_a', 1);
        for (const line of lines) line.destroy();
        await new Promise((next) => setTimeout(next, 50));
        await users.setDisabled('usr_a', 2);
      }),
      { code: 'unavailable' },
    );
    assert.equal((await store.users.find('usr_a'))?.disabledAt, undefined);
  });

  test('its password stands beside its URL, whatever is in it', { timeout: 30_000 }, async (t) => {
    const own = await startPostgres('scram-sha-256', 'p%40/:@ w%');
    t.after(own.stop);
    const url = await own.newDatabase();
    const store = await opened(t, postgresStore({ url, password: 'p%40/:@ w%', poolSize: 1, timeoutMs: 2_000 }));
    await store.users.add(user('a'));
    const wrong = postgresStore({ url, password: 'another', poolSize: 1, timeoutMs: 2_000 });
    await assert.rejects(wrong.users.find('usr_a'), { code: 'unavailable' });
    await wrong.close();
  });

  test(
    'hung, it is 503 in time; awake, cut off and started anew, it is asked again as if nothing had been',
    { timeout: 30_000 },
    async (t) => {
      const own = await startPostgres();
      t.after(own.stop);
      const store = await opened(t, postgresStore({ url: await own.newDatabase(), poolSize: 4, timeoutMs: 300 }));
      await store.users.add(user('a'));
      own.freeze();
      const asked = await Promise.allSettled(Array.from({ length: 20 }, () => store.users.find('usr_a')));
      for (const one of asked) assert.equal(one.status === 'rejected' && one.reason.code, 'unavailable');
      const hurried = await Promise.allSettled(Array.from({ length: 10 }, () => store.users.find('usr_a')));
      const reasons = hurried.map((one) => (one.status === 'rejected' ? one.reason.reason : 'found'));
      for (const reason of reasons) assert.match(reason, /^PostgreSQL: away \(/, 'nobody waits any more');
      own.thaw();
      const found = async () => (await store.users.find('usr_a').catch(() => undefined))?.username;
      const back = async () => {
        for (let i = 0; i < 100 && (await found()) !== 'a'; i++) await new Promise((next) => setTimeout(next, 20));
        assert.equal(await found(), 'a');
      };
      await back();
      await own.halt('immediate');
      await assert.rejects(store.users.find('usr_a'), { code: 'unavailable' });
      await own.start();
      await back();
      assert.ok(Math.abs(((await store.time?.()) ?? 0) - Date.now()) < 5_000);
    },
  );
});

async function opened(t: TestContext, store: SqlStore): Promise<SqlStore> {
  t.after(() => store.close());
  await store.migrate();
  return store;
}

function fileFor(t: TestContext): string {
  const folder = mkdtempSync(join(tmpdir(), 'portcullis-test-'));
  t.after(() => rmSync(folder, { recursive: true, force: true }));
  return join(folder, 'store.db');
}
