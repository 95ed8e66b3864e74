import assert from 'node:assert/strict';
import { createHash, generateKeyPairSync } from 'node:crypto';
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { test } from 'node:test';
import { systemClock } from '@portcullis/guard';
import { openPrivateJwk } from '../packages/server/src/domain/key/key-material.ts';
import { addUser } from '../packages/server/src/flows/add-user.ts';
import { disableUser, enableUser, removeUser, setPassword } from '../packages/server/src/flows/change-user.ts';
import { endSessionsOf } from '../packages/server/src/flows/end-session.ts';
import { importKey, rotateKey } from '../packages/server/src/flows/keep-keys.ts';
import { openHouse } from '../packages/server/src/house.ts';
import { readSettings } from '../packages/server/src/settings/read.ts';
import { cookieHeader, cookiesOf, ownOrigin, signedBy } from './support/cookies.ts';
import { type Answer, type Ask, folderFor, type Program, startProgram, wideLimits } from './support/program.ts';

const password = {
  first: 'Ein Satz, den niemand errät: äöü',
  second: 'correct horse / battery+staple?',
  wrong: 'this is not what it was, alas',
};

test('after a busy life no secret is where it should not be: in no table, file, log, output or error', { timeout: 60_000 }, async (t) => {
  const folder = folderFor(t);
  const program = await startProgram(t, { folder, settings: wideLimits });
  const secrets = new Map<string, Buffer>();
  const told: string[] = [];
  const keep = (name: string, secret: string | Buffer) => secrets.set(`${name} ${secrets.size}`, Buffer.from(secret));

  const operator = await operate(folder, t);
  await operator.busyLife(keep);
  await live(program, keep, told);
  await operator.lastActs();
  await program.stop(); // its log is written behind its answers

  for (const text of Object.values(password)) keep('password', text);
  const files = filesOf(folder);
  const places = new Map([
    ...[...files].filter(([name]) => name !== 'master-secret' && name !== 'key.pem'),
    ...tablesOf(folder),
    ['output', Buffer.from(program.output())] as const,
    ['error bodies', Buffer.from(told.join('\n'))] as const,
  ]);
  assert.ok(secrets.size > 60, `only ${secrets.size} secrets`);
  for (const name of ['portcullis.db', 'portcullis.db-wal', 'security.log', 'table sessions', 'table keys', 'error bodies'])
    assert.ok((places.get(name)?.length ?? 0) > 500, name);
  assert.deepEqual(sweep(secrets, places), []);

  // A hash of a token is for its row alone, and the hash of a password too.
  const hashes = new Map<string, Buffer>();
  for (const [name, secret] of secrets)
    for (const algorithm of ['sha256', 'sha1', 'md5']) hashes.set(`${algorithm} of ${name}`, createHash(algorithm).update(secret).digest());
  for (const hash of operator.passwordHashes()) hashes.set(`argon2 ${hashes.size}`, Buffer.from(hash));
  const logs = new Map(
    [...places].filter(([name]) => !name.startsWith('portcullis.db') && !['table sessions', 'table credentials'].includes(name)),
  );
  assert.ok(logs.has('security.log') && logs.has('table audit'));
  assert.deepEqual(sweep(hashes, logs), []);

  // What the sweep would find, if it were there: each secret, in each form, in the middle of anything.
  for (const [name, secret] of secrets) {
    for (const planted of [
      secret,
      secret.toString('hex'),
      secret.toString('hex').toUpperCase(),
      secret.toString('base64'),
      secret.toString('base64url'),
      Buffer.concat([Buffer.from('x'), secret, Buffer.from('yz')]).toString('base64'),
      JSON.stringify({ at: secret.toString() }),
    ]) {
      const found = sweep(
        new Map([[name, secret]]),
        new Map([['planted', Buffer.concat([Buffer.from('before '), Buffer.from(planted), Buffer.from(' after')])]]),
      );
      assert.deepEqual(found, [`${name} in planted`]);
    }
  }
  await operator.plant(password.second);
  assert.deepEqual(
    sweep(secrets, tablesOf(folder)).map((found) => found.replace(/ \d+/, '')),
    ['password in table audit'],
  );
  assert.notDeepEqual(
    sweep(secrets, filesOf(folder)).filter((found) => found.endsWith('.db-wal')),
    [],
  );
  assert.notDeepEqual(sweep(secrets, files), [], 'they are in the two files that are meant for them');
});

type Keep = (name: string, secret: string | Buffer) => void;

/** Everything that a program can be sent, rightly and wrongly. The demo's own password is known to everyone, and no secret. */
async function live(program: Program, keep: Keep, told: string[]): Promise<void> {
  const ask = async (method: string, path: string, sent: Ask): Promise<Answer> => {
    const answer = await program.ask(method, path, sent);
    if (answer.status >= 400) told.push(answer.text, JSON.stringify(answer.headers));
    for (const token of [answer.json?.access_token, answer.json?.refresh_token, answer.json?.device_token])
      if (token !== undefined) keepToken(keep, token);
    for (const { value } of cookiesOf(answer)) if (value !== '') keepToken(keep, value);
    if (answer.json?.csrf_token !== undefined) keep('CSRF token', answer.json.csrf_token);
    return answer;
  };
  let device: string | undefined;
  const logIn = async (username = 'anna') => {
    const { json } = await ask('POST', '/login', { json: { username, password: password.second, device_token: device } });
    device = json.device_token;
    return json;
  };

  const { access_token: access, refresh_token: refresh } = await logIn();
  for (const json of [
    { username: 'anna', password: password.wrong },
    { username: 'nobody', password: password.second },
    { username: 'nobody', password: password.second, device_token: device },
    { username: 'anna', password: password.wrong, device_token: device },
    { username: 'anna', password: password.second, more: 1 },
    { username: 'anna', password: [password.second] },
  ]) {
    for (let i = 0; i < 6; i += 1) assert.notEqual((await ask('POST', '/login', { json })).status, 200);
  }
  for (const body of [
    `{"username":"anna","password":"${password.second}"`,
    `{"username":"anna","password":"${password.second}","__proto__":{}}`,
    `"${password.second}"`,
    `${password.second}\u0000`,
  ]) {
    assert.equal((await ask('POST', '/login', { body })).status, 400);
  }
  await ask('POST', '/login', { body: `password=${password.second}`, headers: { 'content-type': 'application/x-www-form-urlencoded' } });
  await ask('POST', `/login?password=${encodeURIComponent(password.second)}`, { json: {} });

  const next = (await ask('POST', '/refresh', { bearer: refresh })).json.refresh_token;
  await ask('POST', '/refresh', { bearer: refresh });
  for (const bearer of [`${next}x`, `${next.slice(0, -1)}`, access, 'prt_', `${next} ${next}`])
    assert.equal((await ask('POST', '/refresh', { bearer })).status, 401);
  for (const bearer of [`${access}x`, access.slice(0, -3), refresh, `${access}.${access}`])
    assert.equal((await ask('GET', '/protected', { bearer })).status, 401);
  await ask('POST', '/refresh', { json: { refresh_token: next } });
  for (const authorization of [access, `Basic ${access}`, `Bearer ${access} x`])
    assert.equal((await ask('GET', '/protected', { headers: { authorization } })).status, 401);
  await ask('GET', '/protected', { headers: { cookie: `access=${access}` } });
  for (const path of [`/${access}`, `/protected?access_token=${access}`, `/refresh/${next}`, `/%zz${next}`])
    await ask('GET', path, { bearer: access });
  await ask(next.slice(0, 12), '/protected', { bearer: access }).catch(() => {}); // not even a method
  assert.equal((await ask('GET', '/protected', { bearer: access })).status, 200);

  await ask('POST', '/refresh', { bearer: next });
  assert.equal((await ask('POST', '/refresh', { bearer: refresh })).json.code, 'token_revoked', 'a replay');
  assert.equal((await ask('GET', '/protected', { bearer: access })).json.code, 'token_revoked');
  const second = await logIn();
  await ask('POST', '/logout', { json: { refresh_token: second.refresh_token, more: second.refresh_token } });
  await ask('POST', '/logout', { json: { refresh_token: second.refresh_token } });
  await ask('POST', '/logout', { bearer: second.access_token });
  for (let i = 0; i < 10; i += 1) await logIn();

  const origin = ownOrigin(program);
  const signed = signedBy(
    await ask('POST', '/login', {
      json: { username: 'anna', password: password.second, transport: 'cookie', device_token: device },
      headers: { origin },
    }),
  );
  const cookie = cookieHeader(signed);
  const refused: Record<string, string>[] = [
    { cookie, origin: `https://${signed.refresh}.example` },
    { cookie, origin },
    { cookie, origin, 'x-csrf-token': `${signed.csrf}x` },
    { cookie: `${cookie}; ${cookie}`, origin },
    { cookie: cookieHeader({ access: signed.refresh, refresh: signed.access }), origin },
  ];
  for (const headers of refused)
    for (const path of ['/refresh', '/logout']) assert.notEqual((await ask('POST', path, { headers })).status, 200);
  signedBy(await ask('POST', '/refresh', { headers: { cookie, origin, 'x-csrf-token': signed.csrf } }));
}

/** The token as it is sent, the part of it that proves something, and the bytes behind that. */
function keepToken(keep: Keep, token: string): void {
  keep('token', token);
  const proof = token.startsWith('prt_')
    ? Buffer.from(token.slice(4, -6), 'base64url').subarray(20)
    : token.startsWith('pdt_')
      ? Buffer.from(token.slice(4), 'base64url').subarray(22)
      : Buffer.from(token.split('.')[2] ?? '', 'base64url');
  keep('proof of token', proof);
  if (token.startsWith('prt_')) keep('secret of token', proof.subarray(0, 32));
}

/** An operator beside the running program, as its CLI is one. */
async function operate(folder: string, t: { after(work: () => Promise<void>): void }) {
  const reading = readSettings({ mode: 'dev', env: { PORTCULLIS_DATA_DIR: folder }, flags: {}, readFile: () => '' });
  assert.ok('settings' in reading);
  const masterSecret = readFileSync(join(folder, 'master-secret'), 'utf8').trim();
  const house = await openHouse({ settings: reading.settings, issuer: 'https://localhost', secrets: [masterSecret], clock: systemClock() });
  t.after(() => house.close());
  const { services, store } = house;
  const passwordHashes: string[] = [];
  const keepHash = async (username: string) => {
    const user = await store.users.findByName(username);
    passwordHashes.push((await store.credentials.findPassword(user?.id ?? ''))?.passwordHash ?? '');
  };

  return {
    passwordHashes: () => passwordHashes,
    async busyLife(keep: Keep): Promise<void> {
      keep('master secret', masterSecret);
      keep('master secret', Buffer.from(masterSecret.replace('demo-', ''), 'base64url'));
      keep('TLS key', keyBytes(readFileSync(join(folder, 'key.pem'), 'utf8')));

      await addUser(services, 'anna', password.first);
      await keepHash('anna');
      await assert.rejects(setPassword(services, 'anna', 'too short'));
      await setPassword(services, 'anna', password.second);
      await keepHash('anna');
      await addUser(services, 'bob', password.second);
      await disableUser(services, 'bob');
      await enableUser(services, 'bob');

      const pem = generateKeyPairSync('ec', { namedCurve: 'P-256' }).privateKey.export({ format: 'pem', type: 'pkcs8' }).toString();
      keep('imported key', keyBytes(pem));
      await importKey(services, pem, masterSecret);
      await rotateKey(services, 'RS256', masterSecret, { by: 'operator' });
      await rotateKey(services, 'EdDSA', masterSecret, { by: 'operator', at: 'once' });
      await assert.rejects(importKey(services, pem.replace('\n', '\nAA'), masterSecret), { code: 'key_unusable' });
      const all = await store.keys.list();
      assert.equal(all.length, 4);
      for (const key of all) {
        const jwk = openPrivateJwk(key, masterSecret);
        for (const part of [jwk?.d, jwk?.p, jwk?.q])
          if (part !== undefined) keep(`private part of ${key.alg}`, Buffer.from(part, 'base64url'));
      }
    },
    async lastActs(): Promise<void> {
      await keepHash('bob');
      await endSessionsOf(services, 'anna');
      await removeUser(services, 'bob');
      house.securityLog.close();
    },
    plant: (reason: string) => store.audit.add({ id: 'aud_planted', at: 1, action: 'login', by: 'server', reason, count: 1 }),
  };
}

const keyBytes = (pem: string): Buffer => Buffer.from(pem.replace(/-----.*-----|\s/g, ''), 'base64');

const filesOf = (folder: string): Map<string, Buffer> =>
  new Map(readdirSync(folder).map((name) => [name, readFileSync(join(folder, name))]));

/** Each table's rows as JSON: a long value may lie in pieces in the file. */
function tablesOf(folder: string): Map<string, Buffer> {
  const db = new DatabaseSync(join(folder, 'portcullis.db'), { readOnly: true });
  try {
    const names = db
      .prepare("SELECT name FROM sqlite_schema WHERE type = 'table'")
      .all()
      .map(({ name }) => String(name));
    return new Map(
      names.map((name) => [
        `table ${name}`,
        Buffer.from(
          db
            .prepare(`SELECT * FROM "${name}"`)
            .all()
            .map((row) => JSON.stringify(row))
            .join('\n'),
        ),
      ]),
    );
  } finally {
    db.close();
  }
}

/** Which secret is where, in clear or in base64, base64url or hex, at any offset. */
function sweep(secrets: ReadonlyMap<string, Buffer>, places: ReadonlyMap<string, Buffer>): string[] {
  const found: string[] = [];
  for (const [place, bytes] of places) {
    const lower = Buffer.from(
      bytes.toString('latin1').replace(/[A-F]/g, (digit) => digit.toLowerCase()),
      'latin1',
    );
    const plain = Buffer.from(bytes.toString('latin1').replace(/\+/g, '-').replace(/\//g, '_'), 'latin1');
    for (const [name, secret] of secrets) {
      const isThere =
        bytes.includes(secret) ||
        bytes.includes(JSON.stringify(secret.toString()).slice(1, -1)) ||
        lower.includes(secret.toString('hex')) ||
        base64Cores(secret).some((core) => plain.includes(core));
      if (isThere) found.push(`${name} in ${place}`);
    }
  }
  return found;
}

/** What of the base64 of these bytes does not depend on what stands around them, for each of the three ways they may lie. */
const base64Cores = (bytes: Buffer): string[] =>
  [0, 1, 2].map((before) => {
    const text = Buffer.concat([Buffer.alloc(before), bytes]).toString('base64url');
    return text.slice(Math.ceil((before * 8) / 6), Math.floor(((before + bytes.length) * 8) / 6));
  });
