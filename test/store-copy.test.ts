import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { describe, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import pg from 'pg';
import { run as runHere } from '../packages/server/src/cli/run.ts';
import { without } from './support/needs.ts';
import { isPostgresHere, startPostgres } from './support/postgres.ts';
import { folderFor, logIn, runCommand, shared, startProgram, until, wideLimits } from './support/program.ts';
import { assertRefused } from './support/refusal.ts';
import { certificate } from './wire/support.ts';

const PASSWORD = 'a long sentence is a good password';
const OF_DATABASE = 'only the database knows this';
const main = fileURLToPath(new URL('../packages/server/bin/portcullis.mjs', import.meta.url));
const alice = { username: 'alice', password: PASSWORD };

describe('store copy', { skip: without('PostgreSQL', isPostgresHere) }, () => {
  const here = shared(async (t) => {
    const folder = folderFor(t);
    const postgres = await startPostgres('scram-sha-256', OF_DATABASE);
    t.after(postgres.stop);
    const file = (name: string, text: string): string => {
      const path = join(folder, name);
      writeFileSync(path, text);
      return path;
    };
    const settings = {
      ...wideLimits,
      ISSUER: 'https://localhost',
      MASTER_SECRET: 'q3ZkT0v9yX7uB1nLw5cRj8sHd2fGm6aE4pKi',
      TLS_KEY_FILE: file('key.pem', certificate.key),
      TLS_CERT_FILE: file('cert.pem', certificate.cert),
      DATA_DIR: folder,
      DATABASE_PASSWORD_FILE: file('password', `${OF_DATABASE}\n`),
    };
    return { folder, postgres, settings };
  });

  const envFor = (settings: Record<string, string>) =>
    Object.fromEntries(Object.entries({ ...here.settings, ...settings }).map(([name, value]) => [`PORTCULLIS_${name}`, value]));

  /** In this process, which is quicker. */
  async function run(args: readonly string[], settings: Record<string, string> = {}) {
    const said = { stdout: '', stderr: '' };
    const to = (name: keyof typeof said) => ({ write: (text: string) => void (said[name] += text) });
    const code = await runHere({ argv: args, env: envFor(settings), stdout: to('stdout'), stderr: to('stderr') });
    assert.doesNotMatch(said.stdout + said.stderr, new RegExp(OF_DATABASE));
    return { code, ...said };
  }
  const copy = (from: string, to: string) => run(['store', 'copy', '--json', '--from', from, '--to', to]);
  async function copied(from: string, to: string): Promise<Record<string, number>> {
    const { code, stdout, stderr } = await copy(from, to);
    assert.equal(code, 0, stderr);
    return Object.fromEntries(JSON.parse(stdout).map(({ table, rows }: { table: string; rows: number }) => [table, rows]));
  }
  async function refused(from: string, to: string, why: RegExp): Promise<void> {
    const { code, stdout, stderr } = await copy(from, to);
    assert.deepEqual([code, stdout], [2, ''], stderr);
    assert.match(stderr, why);
  }
  const serve = (t: Parameters<typeof startProgram>[0], url: string) =>
    startProgram(t, { command: 'serve', folder: here.folder, settings: { ...here.settings, DATABASE_URL: url }, ca: certificate.cert });
  /** All that an operator can see of a store. */
  async function seen(url: string): Promise<unknown[]> {
    const lists = [];
    for (const noun of ['users', 'sessions', 'keys', 'audit']) {
      const { code, stdout, stderr } = await run(
        [noun, 'list', '--json', '--limit', '100000'].slice(0, noun === 'users' || noun === 'keys' ? 3 : 5),
        {
          DATABASE_URL: url,
        },
      );
      assert.equal(code, 0, stderr);
      const list: unknown[] = JSON.parse(stdout);
      assert.ok(list.length > 0, noun);
      lists.push(list);
    }
    return lists;
  }

  test('from SQLite to PostgreSQL nobody has to log in again, what was revoked stays so; and back', { timeout: 60_000 }, async (t) => {
    const [first, back] = [`sqlite:${join(here.folder, 'first.db')}`, `sqlite:${join(here.folder, 'back.db')}`];
    const url = await here.postgres.newDatabase();
    for (const name of ['alice', '多語 😀']) {
      const env = envFor({ DATABASE_URL: first });
      assert.equal((await runCommand(['users', 'add', name, '--password-stdin'], { env, input: PASSWORD })).code, 0);
    }
    const old = await serve(t, first);
    const [living, ended, waiting] = [await logIn(old, alice), await logIn(old, alice), await logIn(old, alice)];
    const next = await old.ask('POST', '/refresh', { bearer: living.refresh });
    assert.equal((await old.ask('POST', '/logout', { bearer: ended.access })).status, 200);
    const guess = (program: typeof old, username = 'nobody') => program.ask('POST', '/login', { json: { username, password: 'x' } });
    for (let i = 0; i < 4; i++) assertRefused(await guess(old), 'credentials_invalid');
    assertRefused(await guess(old, 'a\0b \\ \u{1f600}'), 'credentials_invalid');
    await refused(first, url, /--from: a server is running on .*first\.db: stop it first/);
    assert.equal(await old.stop(), 0);

    const before = await seen(first);
    const counts = await copied(first, url);
    assert.deepEqual([counts.users, counts.credentials, counts.sessions], [2, 2, 3]);
    assert.deepEqual(await seen(url), before);
    assert.deepEqual(await seen(first), before, 'the source is only read');
    await refused(first, url, /--to: .* is not empty \(it has users\)/);

    const now = await serve(t, url);
    assert.equal((await now.ask('GET', '/protected', { bearer: living.access })).status, 200, 'keys have moved');
    const again = await now.ask('POST', '/refresh', { bearer: next.json.refresh_token });
    assert.equal(again.status, 200, again.text);
    assertRefused(await now.ask('GET', '/protected', { bearer: ended.access }), 'token_revoked');
    assertRefused(await now.ask('POST', '/refresh', { bearer: ended.refresh }), 'token_revoked');
    assertRefused(await guess(now), 'credentials_invalid');
    assertRefused(await guess(now), 'too_many_attempts'); // the sixth of six
    assertRefused(await guess(now, 'a\0b \\ \u{1f600}'), 'credentials_invalid');
    assert.equal((await now.ask('POST', '/logout', { bearer: again.json.access_token })).status, 200);
    await refused(url, back, /--from: a server is running on postgres:/);
    assert.equal(existsSync(join(here.folder, 'back.db')), false);
    assert.equal(await now.stop(), 0);

    await copied(url, back);
    assert.deepEqual(await seen(back), await seen(url));
    const third = await serve(t, back);
    assertRefused(await third.ask('POST', '/refresh', { bearer: again.json.refresh_token }), 'token_revoked');
    assert.equal((await third.ask('POST', '/refresh', { bearer: waiting.refresh })).status, 200);
  });

  test('killed in the middle, the target is as empty as before, and takes the next copy', { timeout: 30_000 }, async (t) => {
    const from = `sqlite:${join(here.folder, 'killed.db')}`;
    assert.equal((await run(['migrate'], { DATABASE_URL: from })).code, 0);
    fill(join(here.folder, 'killed.db'), 2_500);
    const url = await here.postgres.newDatabase();
    assert.equal((await run(['migrate'], { DATABASE_URL: url })).code, 0);
    const other = new pg.Client(url.replace('@', `:${encodeURIComponent(OF_DATABASE)}@`));
    await other.connect();
    t.after(() => other.end());
    await other.query('begin; lock table audit in share row exclusive mode'); // all before it can be copied
    const child = spawn(process.execPath, [main, 'store', 'copy', '--from', from, '--to', url], { env: envFor({}), stdio: 'ignore' });
    const isWaiting = async () => (await other.query('select 1 from pg_locks where not granted')).rows.length > 0;
    await until(isWaiting);
    child.kill('SIGKILL');
    assert.deepEqual(await once(child, 'close'), [null, 'SIGKILL']);
    await other.query('rollback');
    await until(async () => (await other.query("select 1 from pg_stat_activity where application_name = 'portcullis'")).rows.length === 0);
    const rows = async () => Number((await other.query('select count(*) as all from users')).rows[0].all);
    assert.equal(await rows(), 0);
    assert.deepEqual(await copied(from, url), { users: 2_500, credentials: 2_500, sessions: 0, keys: 0, marks: 2, audit: 1, guesses: 0 });
    assert.equal(await rows(), 2_500);
  });

  test('from file to file too, byte for byte what was in it', async () => {
    const [from, to] = ['whole', 'copy'].map((name) => join(here.folder, `${name}.db`)) as [string, string];
    assert.equal((await run(['migrate'], { DATABASE_URL: `sqlite:${from}` })).code, 0);
    fill(from, 1_001);
    await copied(`sqlite:${from}`, `sqlite:${to}`);
    for (const table of ['users', 'credentials', 'audit']) assert.deepEqual(rowsOf(to, table), rowsOf(from, table));
  });

  test('what is not as it must be is refused, and nothing is made or changed', async () => {
    const { folder } = here;
    const from = `sqlite:${join(folder, 'from.db')}`;
    assert.equal((await run(['migrate'], { DATABASE_URL: from })).code, 0);
    const older = join(folder, 'older.db');
    assert.equal((await run(['migrate'], { DATABASE_URL: `sqlite:${older}` })).code, 0);
    const db = new DatabaseSync(older);
    db.exec("delete from kysely_migration where name like '0006%'");
    db.close();
    const target = `sqlite:${join(folder, 'target.db')}`;
    const secretly = `postgres://me:${OF_DATABASE.replaceAll(' ', '%20')}@127.0.0.1/x`;
    await refused(`sqlite:${join(folder, 'none.db')}`, target, /--from: there is no store at/);
    await refused('sqlite::memory:', target, /--from: a store in memory ends with its process/);
    await refused(from, 'mysql://x', /--to: this is not /);
    await refused(from, secretly, /--to: every process of the machine can read the command line/);
    await refused(`sqlite:${older}`, target, /--from: .* is not of this version: "portcullis migrate"/);
    await refused('postgres://a@127.0.0.1/x', 'postgres://b@127.0.0.1/x', /pg_dump/);
    assert.equal(existsSync(join(folder, 'target.db')), false);
    await refused(from, `sqlite:${older}`, /--to: .* is of another version, and not empty/);
    await refused(from, 'postgres://me@127.0.0.1:1/x', /cannot be asked \(PostgreSQL: ECONNREFUSED\)/);
    await refused(from, from, /--to: this is the store of --from/);
    assert.equal((await run(['store', 'copy', '--from', from])).code, 2);
  });
});

function fill(file: string, users: number): void {
  const db = new DatabaseSync(file);
  db.exec('begin');
  const [user, credential] = [
    db.prepare('insert into users values (?, ?, ?, 1, null, 0)'),
    db.prepare("insert into credentials values (?, 'password', ?, 1, 1)"),
  ];
  for (let i = 0; i < users; i++) {
    user.run(`usr_${i}`, `ünï😀${i}`, `unique${i}`);
    credential.run(`usr_${i}`, `hash of ${i}`);
  }
  db.exec("insert into audit values ('aud_1', 1700000000000, 'login', 'user', null, null, null, null, null, null, 7); commit");
  db.close();
}

function rowsOf(file: string, table: string): unknown[] {
  const db = new DatabaseSync(file);
  const rows = db.prepare(`select * from ${table} order by 1`).all();
  db.close();
  return rows;
}
