import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { test } from 'node:test';
import { manualClock } from '@portcullis/guard';
import { openPrivateJwk } from '../packages/server/src/domain/key/key-material.ts';
import { addUser } from '../packages/server/src/flows/add-user.ts';
import { ensureSigningKey, rotateKey } from '../packages/server/src/flows/keep-keys.ts';
import { login } from '../packages/server/src/flows/login.ts';
import { refresh } from '../packages/server/src/flows/refresh.ts';
import { previousSecretNote, resealKeys } from '../packages/server/src/flows/reseal-keys.ts';
import { type House, openHouse } from '../packages/server/src/house.ts';
import { start } from '../packages/server/src/start.ts';
import { readSettings } from '../packages/server/src/settings/read.ts';
import { folderFor, logIn, runCommand, startProgram, wideLimits } from './support/program.ts';
import { assertRefused } from './support/refusal.ts';

const OLD = 'the-master-secret-of-before-0123456789';
const NEW = 'a-master-secret-of-now-9876543210-xyz';
const settings = { ...wideLimits, ISSUER: 'https://localhost', REFRESH_GRACE: '5 minutes' };
const PASSWORD = 'seven grey herons at noon';

test(
  'with the real program: nobody is logged out, and what was never refreshed ends with the secret of before',
  { timeout: 60_000 },
  async (t) => {
    const folder = folderFor(t);
    const restart = (secrets: Record<string, string>) => startProgram(t, { folder, settings: { ...settings, ...secrets } });
    let program = await restart({ MASTER_SECRET: OLD });
    const [used, unused, repeated] = [await logIn(program), await logIn(program), await logIn(program)];
    const successor = (await program.ask('POST', '/refresh', { bearer: repeated.refresh })).json.refresh_token;
    await program.stop('SIGKILL');

    // The new one alone: a clear mistake, and nothing is changed.
    const alone = await runCommand(['dev'], {
      env: { PORTCULLIS_DATA_DIR: folder, PORTCULLIS_PORT: '0', PORTCULLIS_MASTER_SECRET: NEW },
    });
    assert.equal(alone.code, 2);
    assert.match(alone.stderr, /^Cannot start: PORTCULLIS_MASTER_SECRET \(environment\): the master secret does not open the key/m);

    program = await restart({ MASTER_SECRET: NEW, MASTER_SECRET_PREVIOUS: OLD });
    assert.match(
      program.output(),
      /^1 signing key is sealed under PORTCULLIS_MASTER_SECRET now\. Sessions of before .* take it out after \d{4}-/m,
    );
    for (const secret of [OLD, NEW])
      assert.ok(!program.output().includes(secret) && !readFileSync(join(folder, 'security.log'), 'utf8').includes(secret));
    assert.equal((await program.ask('GET', '/protected', { bearer: used.access })).status, 200);
    const refreshed = (await program.ask('POST', '/refresh', { bearer: used.refresh })).json;
    assert.equal((await program.ask('GET', '/protected', { bearer: refreshed.access_token })).status, 200);
    const again = await program.ask('POST', '/refresh', { bearer: repeated.refresh });
    assert.deepEqual([again.status, again.json.refresh_token], [200, successor], 'a repeat within the grace, across the change');
    const rotated = await runCommand(['keys', 'rotate', '--dev', '--json'], {
      env: { PORTCULLIS_DATA_DIR: folder, PORTCULLIS_MASTER_SECRET: NEW, PORTCULLIS_MASTER_SECRET_PREVIOUS: OLD },
    });
    assert.equal(rotated.code, 0, rotated.stderr);
    await program.stop('SIGKILL');

    program = await restart({ MASTER_SECRET: NEW });
    const last = await program.ask('POST', '/refresh', { bearer: refreshed.refresh_token });
    assert.equal(last.status, 200);
    for (const { refresh: token } of [unused, repeated])
      assertRefused(await program.ask('POST', '/refresh', { bearer: token }), 'token_invalid');
    assert.equal((await program.ask('GET', '/protected', { bearer: last.json.access_token })).status, 200);
    const db = new DatabaseSync(join(folder, 'portcullis.db'), { readOnly: true });
    assert.deepEqual(
      db
        .prepare("select by, count from audit where action = 'keys_resealed'")
        .all()
        .map((row) => ({ ...row })),
      [{ by: 'server', count: 1 }],
    );
    db.close();
  },
);

test('two secrets that are one, or neither of which fits, are mistakes', async (t) => {
  const folder = folderFor(t);
  const starting = async (mode: 'dev' | 'serve', secrets: Record<string, string>): Promise<string> => {
    const given = { DATA_DIR: folder, PORT: '0', ...secrets };
    const running = await start({
      mode,
      env: Object.fromEntries(Object.entries(given).map(([name, value]) => [`PORTCULLIS_${name}`, value])),
    });
    if ('mistakes' in running) return running.mistakes.join('\n');
    await running.stop();
    return running.notes.join('\n');
  };
  assert.equal(await starting('dev', {}), '');
  const demo = readFileSync(join(folder, 'master-secret'), 'utf8').trim();

  const { MASTER_SECRET, MASTER_SECRET_PREVIOUS } = { MASTER_SECRET: NEW, MASTER_SECRET_PREVIOUS: OLD };
  for (const [mode, secrets, says] of [
    [
      'dev',
      { MASTER_SECRET, MASTER_SECRET_PREVIOUS: NEW },
      /PORTCULLIS_MASTER_SECRET_PREVIOUS \(environment, "set"\): this is the current one/,
    ],
    ['dev', { MASTER_SECRET_PREVIOUS: demo }, /^PORTCULLIS_MASTER_SECRET_PREVIOUS: this is the current one/],
    ['dev', { MASTER_SECRET, MASTER_SECRET_PREVIOUS }, /does not open the key .*, and neither is PORTCULLIS_MASTER_SECRET_PREVIOUS/],
    ['dev', { MASTER_SECRET_PREVIOUS: 'short' }, /^PORTCULLIS_MASTER_SECRET_PREVIOUS \(environment\): it is shorter than 32 bytes/],
    ['serve', { MASTER_SECRET, MASTER_SECRET_PREVIOUS: demo }, /PORTCULLIS_MASTER_SECRET_PREVIOUS: this is the secret of a demo/],
  ] as const) {
    const said = await starting(mode, secrets);
    assert.match(said, says);
    for (const secret of [NEW, OLD, demo]) assert.ok(!said.includes(secret));
  }

  // A demo's store under a secret of one's own, and back.
  assert.match(await starting('dev', { MASTER_SECRET, MASTER_SECRET_PREVIOUS: demo }), /^1 signing key is sealed/);
  assert.match(await starting('dev', { MASTER_SECRET_PREVIOUS: NEW }), /^1 signing key is sealed/);
});

test('rolling: two that have the secrets the other way round work on one store', async (t) => {
  const folder = folderFor(t);
  const clock = manualClock();
  const open = async (...secrets: [string, ...string[]]): Promise<House> => {
    const reading = readSettings({ mode: 'dev', env: { PORTCULLIS_DATA_DIR: folder }, flags: {}, readFile: () => '' });
    assert.ok('settings' in reading);
    const house = await openHouse({ settings: reading.settings, issuer: 'https://localhost', secrets, clock });
    t.after(() => house.close());
    await house.services.keyRing.load();
    await resealKeys(house.services, secrets);
    await ensureSigningKey(house.services, 'EdDSA', secrets[0]);
    await house.services.keyRing.load();
    return house;
  };
  const sender = { address: '192.0.2.1', block: '192.0.2.1', requestId: 'request', userAgent: 'test' };
  const first = await open(OLD);
  await addUser(first.services, 'ada', PASSWORD);

  const b = await open(OLD, NEW); // the first round: both learn to read the new one
  const a = await open(NEW, OLD); // the second: one has it already
  const houses = [a, b];
  const fresh = (house: House) => login(house.services, { username: 'ada', password: PASSWORD }, sender);
  const [fromA, fromB] = [await fresh(a), await fresh(b)];
  for (const tokens of [fromA, fromB]) {
    let current = tokens.refreshToken;
    for (const house of [a, b, b, a]) {
      assert.ok(house.services.refreshTokens.read(current));
      const next = await refresh(house.services, current, sender);
      for (const other of houses)
        assert.equal((await refresh(other.services, current, sender)).refreshToken, next.refreshToken, 'a repeat, wherever it goes');
      current = next.refreshToken;
    }
  }
  // Either makes keys, and restarts; the other reads them.
  await rotateKey(a.services, 'EdDSA', NEW, { by: 'server', at: 'once' });
  await rotateKey(b.services, 'EdDSA', OLD, { by: 'server', at: 'once' });
  for (const house of houses) await house.services.keyRing.load();
  for (const [house, secrets, count] of [
    [a, [NEW, OLD], 1],
    [b, [OLD, NEW], 3],
    [a, [NEW, OLD], 3],
  ] as const)
    assert.equal(await resealKeys(house.services, secrets), count, 'what the other one made, and then all, to and fro');
  const [c, d] = [await open(OLD, NEW), await open(NEW, OLD)];
  for (const house of [...houses, c, d]) {
    await house.services.keyRing.load();
    assert.equal(house.services.keyRing.jwks().keys.length, 3);
  }

  // The last to start has the new one as its own: now it is enough.
  const keys = await d.services.keys.list();
  assert.ok(keys.every((key) => openPrivateJwk(key, NEW) && !openPrivateJwk(key, OLD)));
  const e = await open(NEW);
  assert.ok(e.services.refreshTokens.read((await fresh(a)).refreshToken));
  assert.equal(e.services.refreshTokens.read((await fresh(b)).refreshToken), undefined);
});

test('the note says how long the secret of before is needed', async (t) => {
  const clock = manualClock();
  const reading = readSettings({
    mode: 'dev',
    env: { PORTCULLIS_DATA_DIR: folderFor(t), PORTCULLIS_DATABASE_URL: 'sqlite::memory:' },
    flags: {},
    readFile: () => '',
  });
  assert.ok('settings' in reading);
  const { services, close } = await openHouse({ settings: reading.settings, issuer: 'https://localhost', secrets: [OLD], clock });
  t.after(close);
  await ensureSigningKey(services, 'EdDSA', OLD);
  await rotateKey(services, 'ES256', OLD, { by: 'operator' });
  assert.match(await previousSecretNote(services, 0), /^Nothing needs /);
  assert.equal(await resealKeys(services, [OLD]), 0);
  assert.equal(await resealKeys(services, [OLD, NEW]), 0);
  const changedAt = clock.now();
  assert.equal(await resealKeys(services, [NEW, OLD]), 2);
  assert.equal(await resealKeys(services, [NEW, OLD]), 0);
  const until = new Date(changedAt + 7 * 86_400_000).toISOString();
  assert.equal(
    await previousSecretNote(services, 2),
    `2 signing keys are sealed under PORTCULLIS_MASTER_SECRET now. Sessions of before still need PORTCULLIS_MASTER_SECRET_PREVIOUS: take it out after ${until}, when the last of them has been refreshed or has ended. Devices that have not logged in by then are strangers to password guessing's limits.`,
  );
  clock.advance(7 * 86_400_000 - 1);
  assert.match(await previousSecretNote(services, 0), new RegExp(`^Sessions of before still need .* after ${until},`));
  clock.advance(1);
  assert.match(await previousSecretNote(services, 0), /^Nothing needs /);
});
