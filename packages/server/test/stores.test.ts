import assert from 'node:assert/strict';
import { copyFileSync, mkdtempSync, renameSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { suite, test, type TestContext } from 'node:test';
import { Kysely, sql } from 'kysely';
import { auditConformance } from '../src/domain/audit/conformance.ts';
import { credentialsConformance } from '../src/domain/credential/conformance.ts';
import { guessesConformance } from '../src/domain/guess/conformance.ts';
import { keysConformance } from '../src/domain/key/conformance.ts';
import { sessionsConformance } from '../src/domain/session/conformance.ts';
import { usersConformance } from '../src/domain/user/conformance.ts';
import { lockForServer } from '../src/storage/sql/server-lock.ts';
import { sqliteStore, type SqlStore } from '../src/storage/sql/sql-store.ts';
import { openSqlite } from '../src/storage/sql/sqlite.ts';

/** One line for each engine. */
const engines: Record<string, (t: TestContext) => Promise<SqlStore>> = {
  'SQLite in memory': (t) => opened(t, sqliteStore(':memory:')),
  'SQLite in a file': (t) => opened(t, sqliteStore(fileFor(t))),
};

for (const [engine, make] of Object.entries(engines)) {
  usersConformance(`users, ${engine}`, make);
  credentialsConformance(`credentials, ${engine}`, make);
  sessionsConformance(`sessions, ${engine}`, make);
  keysConformance(`keys, ${engine}`, make);
  auditConformance(`audit, ${engine}`, make);
  guessesConformance(`guesses, ${engine}`, make);
}

suite('SQLite alone', () => {
  test('tells what others have written, never what it wrote itself', async (t) => {
    const file = fileFor(t);
    const [server, cli] = [await opened(t, sqliteStore(file)), await opened(t, sqliteStore(file))];
    await server.users.add({ id: 'usr_1', username: 'anna', createdAt: 1, disabledAt: undefined, isDemo: false });
    await server.together(({ users }) => users.setDisabled('usr_1', 1));
    assert.equal(server.changedElsewhere(), false);
    assert.equal(cli.changedElsewhere(), true);
    assert.equal(cli.changedElsewhere(), false);
    await cli.users.setDisabled('usr_1', undefined);
    assert.equal(server.changedElsewhere(), true);
    assert.equal(server.changedElsewhere(), false);
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
