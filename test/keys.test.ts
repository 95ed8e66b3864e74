import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { suite, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { createLocalJWKSet, jwtVerify } from 'jose';
import { askedSessions } from '../packages/server/src/domain/session/asked-sessions.ts';
import { compromiseKey } from '../packages/server/src/flows/compromise-key.ts';
import { migrations } from '../packages/server/src/storage/sql/migrations.ts';
import { sqliteStore } from '../packages/server/src/storage/sql/sql-store.ts';
import { openApp, PASSWORD } from './support/house.ts';
import { folderFor, logIn, type Program, runCommand, startProgram, wideLimits } from './support/program.ts';
import { assertRefused } from './support/refusal.ts';

const DAY = 86_400_000;
const settings = { ...wideLimits, ISSUER: 'https://localhost' };

const kidOf = (token: string): string => JSON.parse(Buffer.from(token.split('.')[0] ?? '', 'base64url').toString()).kid;

const at =
  (folder: string) =>
  async (...args: string[]): Promise<any> => {
    const { code, stdout, stderr } = await runCommand([...args, '--dev', '--json'], { env: { PORTCULLIS_DATA_DIR: folder } });
    assert.equal(code, 0, stderr);
    return JSON.parse(stdout);
  };

/** What the store says, without a program between. */
function rows(folder: string, query: string): Record<string, any>[] {
  const db = new DatabaseSync(join(folder, 'portcullis.db'), { readOnly: true });
  try {
    return db.prepare(query).all();
  } finally {
    db.close();
  }
}

suite('a compromised key', () => {
  test('while requests run: from the answer of the command on its tokens are refused; who refreshes goes on', async (t) => {
    const program = await startProgram(t, { settings });
    const sessions = await Promise.all(Array.from({ length: 8 }, () => logIn(program)));
    const kid = kidOf(sessions[0]?.access ?? '');
    for (const { access } of sessions.slice(0, 4)) assert.equal((await program.ask('GET', '/protected', { bearer: access })).status, 200); // remembered

    let done = Infinity;
    const over = new AbortController();
    const late: string[] = [];
    const wrong: string[] = [];
    const ask = async ({ access }: { access: string }): Promise<void> => {
      while (!over.signal.aborted) {
        const startedAt = performance.now();
        const { status, json } = await program.ask('GET', '/protected', { bearer: access });
        if (startedAt > done) late.push(json.code);
        if (status !== 200 && json.code !== 'token_key_gone') wrong.push(`${status} ${json.code}`);
      }
    };
    const load = sessions.map(ask);
    const answer = await at(program.folder)('keys', 'compromise', kid, '--yes', '--reason', 'a test');
    done = performance.now();
    await sleep(200);
    over.abort();
    await Promise.all(load);
    assert.deepEqual(wrong, []);
    assert.ok(late.length > 20);
    assert.deepEqual([...new Set(late)], ['token_key_gone']);
    assertRefused(await program.ask('GET', '/protected', { bearer: sessions[0]?.access ?? '' }), 'token_key_gone');

    const published = (await program.ask('GET', '/.well-known/jwks.json')).json.keys;
    assert.deepEqual(
      published.map((key: any) => key.kid),
      [answer.replacedBy],
    );
    for (const { refresh } of sessions) {
      const { status, json } = await program.ask('POST', '/refresh', { bearer: refresh });
      assert.deepEqual([status, kidOf(json.access_token)], [200, answer.replacedBy]);
      assert.equal((await program.ask('GET', '/protected', { bearer: json.access_token })).status, 200);
    }
    assert.equal(rows(program.folder, "select 1 from audit where action = 'key_compromised'").length, 1);
  });

  test('the very first request behind it is refused, and so is a refresh signed anew, without any look in between', async (t) => {
    const folder = folderFor(t);
    const { app, house } = await openApp(t, { ...settings, DATA_DIR: folder, DATABASE_URL: 'sqlite:portcullis.db' });
    const desk = sqliteStore(join(folder, 'portcullis.db'));
    t.after(() => desk.close());
    const post = (url: string, more: object) =>
      app.inject({ method: 'POST', url, remoteAddress: '192.0.2.1', headers: { host: 'localhost' }, ...more });
    const get = (url: string, token: string) =>
      app.inject({ method: 'GET', url, remoteAddress: '192.0.2.1', headers: { host: 'localhost', authorization: `Bearer ${token}` } });
    const tokens = (await post('/login', { payload: { username: 'alice', password: PASSWORD } })).json();
    assert.equal((await get('/protected', tokens.access_token)).statusCode, 200);

    const clock = house.services.clock;
    const compromise = async (): Promise<string> => {
      const { kid } = house.services.keyRing.active();
      const masterSecret = () => Promise.resolve('a secret of thirty-two bytes or more');
      const on = { clock, keys: desk.keys, together: desk.together, revoked: askedSessions({ sessions: desk.sessions, keys: desk.keys }) };
      return (await compromiseKey(on, kid, { alg: 'EdDSA', masterSecret })).replacedBy?.kid ?? '';
    };
    await compromise();
    assert.equal((await get('/protected', tokens.access_token)).json().code, 'token_key_gone');
    const second = await compromise();
    const refreshed = (await post('/refresh', { headers: { host: 'localhost', authorization: `Bearer ${tokens.refresh_token}` } })).json();
    assert.equal(kidOf(refreshed.access_token), second);
    const third = await compromise();
    const loggedIn = (await post('/login', { payload: { username: 'alice', password: PASSWORD } })).json();
    assert.equal(kidOf(loggedIn.access_token), third);
    const fourth = await compromise();
    assert.deepEqual(
      (await get('/.well-known/jwks.json', '')).json().keys.map((key: any) => key.kid),
      [fourth],
    );
  });

  test('kill -9 of server and command at any moment: all of it happened or nothing did, and what was answered holds', async (t) => {
    const folder = folderFor(t);
    let program = await startProgram(t, { folder, settings });
    const main = fileURLToPath(new URL('../packages/server/bin/portcullis.mjs', import.meta.url));
    let happened = 0;
    for (let round = 0; round < 3; round += 1) {
      const { access, refresh } = await logIn(program);
      const kid = kidOf(access);
      const command = spawn(process.execPath, [main, 'keys', 'compromise', kid, '--yes', '--dev'], {
        env: { PATH: process.env.PATH, PORTCULLIS_DATA_DIR: folder },
        stdio: 'ignore',
      });
      const ended = once(command, 'close');
      // The command needs some 300 ms to get going; in the last round it is left alone.
      const isLeft = round === 2;
      if (!isLeft) await sleep(200 + Math.random() * 300);
      await program.stop('SIGKILL');
      if (!isLeft) command.kill('SIGKILL');
      const [code] = await ended;

      program = await startProgram(t, { folder, settings });
      const [row] = rows(folder, `select * from keys where kid = '${kid}'`);
      const isDone = row?.compromised_at !== null;
      if (code === 0) assert.ok(isDone, 'it was answered');
      happened += isDone ? 1 : 0;
      assert.deepEqual([row?.sealed_private_jwk === '', row?.public_jwk === null], [isDone, isDone]);
      assert.equal(rows(folder, `select 1 from audit where action = 'key_compromised' and reason like '%${kid}%'`).length, isDone ? 1 : 0);
      const asked = await program.ask('GET', '/protected', { bearer: access });
      if (isDone) assertRefused(asked, 'token_key_gone');
      else assert.equal(asked.status, 200);
      const { json } = await program.ask('POST', '/refresh', { bearer: refresh });
      assert.equal((await program.ask('GET', '/protected', { bearer: json.access_token })).status, 200);
      assert.equal(kidOf(json.access_token) === kid, !isDone);
    }
    assert.ok(happened >= 1);
  });

  test('its private half is in none of the files of the store any more, also while the server runs', async (t) => {
    const program = await startProgram(t, { settings: { ...settings, SIGNING_ALG: 'RS256' } });
    const [row] = rows(program.folder, 'select kid, sealed_private_jwk, public_jwk from keys');
    assert.equal(Buffer.from(JSON.parse(row?.public_jwk).n, 'base64url').length, 384, '3072 bits');
    const has = (text: string): boolean =>
      ['portcullis.db', 'portcullis.db-wal'].some((name) => readFileSync(join(program.folder, name)).includes(text));
    assert.equal(has(row?.sealed_private_jwk.slice(100, 200)), true);
    await at(program.folder)('keys', 'compromise', row?.kid, '--yes');
    for (const from of [0, 100, 500, 1_000, 1_500]) assert.equal(has(row?.sealed_private_jwk.slice(from, from + 60)), false);
  });
});

test('by schedule: a store whose key is past its time gets the next one at the start, and one alone', async (t) => {
  const folder = folderFor(t);
  let program = await startProgram(t, { folder, settings });
  const { access } = await logIn(program);
  await program.stop('SIGKILL');
  const db = new DatabaseSync(join(folder, 'portcullis.db'));
  db.exec(`update keys set active_from = active_from - ${31 * DAY}, created_at = created_at - ${31 * DAY}`);
  db.close();

  for (let start = 0; start < 2; start += 1) {
    program = await startProgram(t, { folder, settings });
    const keys = await at(folder)('keys', 'list');
    assert.deepEqual(
      keys.map((key: any) => key.state),
      ['active', 'next'],
    );
    assert.ok(Date.parse(keys[1].activeFrom) - Date.parse(keys[1].createdAt) >= 600_000);
    assert.equal(keys[0].rotatesAt, keys[1].activeFrom);
    assert.equal((await program.ask('GET', '/.well-known/jwks.json')).json.keys.length, 2);
    assert.equal((await program.ask('GET', '/protected', { bearer: access })).status, 200);
    await program.stop('SIGKILL');
  }
});

test('PS256: logins, the guard and a verifier elsewhere agree on its tokens', async (t) => {
  const program = await startProgram(t, { settings: { ...settings, SIGNING_ALG: 'PS256' } });
  const { access } = await logIn(program);
  assert.equal((await program.ask('GET', '/protected', { bearer: access })).status, 200);
  const set = (await program.ask('GET', '/.well-known/jwks.json')).json;
  const { protectedHeader } = await jwtVerify(access, createLocalJWKSet(set), { audience: 'portcullis', typ: 'at+jwt' });
  assert.equal(protectedHeader.alg, 'PS256');
  assert.equal(Buffer.from(set.keys[0].n, 'base64url').length, 384, '3072 bits');
});

test('a store of the first version is brought up to this one, and its key signs on', async (t) => {
  const folder = folderFor(t);
  const program = await startProgram(t, { folder, settings });
  const { access, refresh } = await logIn(program);
  await program.stop('SIGKILL');
  const db = new DatabaseSync(join(folder, 'portcullis.db'));
  db.exec(
    'alter table keys drop column compromised_at; drop index sessions_living; drop table guesses; drop table marks; drop table instances; drop table leases; drop index users_of_demo',
  );
  db.exec("delete from kysely_migration where name != '0001_first'");
  db.close();
  assert.equal(Object.keys(migrations).length, 9, 'another one? Undo it above, too');
  const again: Program = await startProgram(t, { folder, settings });
  assert.equal((await again.ask('GET', '/protected', { bearer: access })).status, 200);
  assert.equal(kidOf((await again.ask('POST', '/refresh', { bearer: refresh })).json.access_token), kidOf(access));
});
