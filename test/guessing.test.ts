import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { setTimeout as wait } from 'node:timers/promises';
import { askForCookies, cookieHeader, cookiesOf, ownOrigin, signedBy } from './support/cookies.ts';
import { demoUser, folderFor, logIn, type Program, runCommand, startProgram, wideLimits } from './support/program.ts';
import { assertRefused } from './support/refusal.ts';

/** A port is drawn anew at each start; the issuer must not change with it. */
const settings = { ...wideLimits, ISSUER: 'https://localhost' };
const wrong = { ...demoUser, password: 'x' };

/** Tries until the name is locked. @returns how many were looked at. */
async function lock(program: Program, json: object, from?: string): Promise<number> {
  for (let tried = 0; ; tried += 1) {
    const answer = await program.ask('POST', '/login', { json, ...(from && { from }) });
    if (answer.status === 401) continue;
    assertRefused(answer, 'too_many_attempts');
    return tried;
  }
}

test('a name is locked for strangers, whatever their address and spelling; sessions go on, and a known device gets in', async (t) => {
  const program = await startProgram(t, { settings });
  const { access, refresh, device } = await logIn(program);
  for (const [i, username] of ['testuser', 'TESTUSER', ' testuser', 'ｔｅｓｔｕｓｅｒ', 'TestUser\t'].entries())
    assertRefused(
      await program.ask('POST', '/login', { json: { username, password: 'x' }, from: `127.0.0.${i + 2}` }),
      'credentials_invalid',
    );
  for (const [i, username] of ['testuser', 'TESTUSER', '𝐭𝐞𝐬𝐭𝐮𝐬𝐞𝐫'].entries()) {
    const answer = await program.ask('POST', '/login', { json: { ...demoUser, username }, from: `127.0.1.${i + 2}` });
    assertRefused(answer, 'too_many_attempts', username);
    assert.match(String(answer.headers['retry-after']), /^([1-5]\d|60)$/);
    assert.equal(answer.json.message, 'Too Many Requests');
  }

  assert.equal((await program.ask('GET', '/protected', { bearer: access })).status, 200);
  const next = await program.ask('POST', '/refresh', { bearer: refresh });
  assert.equal(next.status, 200);
  assert.equal(next.json.device_token, undefined);

  const known = await program.ask('POST', '/login', { json: { ...demoUser, device_token: device }, from: '127.0.0.9' });
  assert.equal(known.status, 200, known.text);
  assert.notEqual(known.json.device_token, device);
  assert.equal(await lock(program, { ...wrong, device_token: known.json.device_token }), 10);
  assertRefused(await program.ask('POST', '/login', { json: { ...demoUser, device_token: device } }), 'too_many_attempts');
  assert.equal(await lock(program, { ...wrong, username: 'nobody', device_token: device }), 5, 'for another name it says nothing');
  for (const device_token of [1, null, ['x'], 'x'.repeat(1_025)])
    assertRefused(await program.ask('POST', '/login', { json: { ...demoUser, device_token } }), 'body_invalid');

  await program.stop();
  const lines = readFileSync(join(program.folder, 'security.log'), 'utf8')
    .trimEnd()
    .split('\n')
    .map((line) => JSON.parse(line));
  const told = lines.filter(({ code, username }) => code === 'too_many_attempts' && username !== undefined);
  assert.deepEqual(
    told.map(({ address, username, reason }) => [address, username, reason]),
    [
      ['127.0.1.2', 'testuser', 'unknown device'],
      ['127.0.1.3', 'TESTUSER', 'unknown device'],
      ['127.0.1.4', '𝐭𝐞𝐬𝐭𝐮𝐬𝐞𝐫', 'unknown device'],
      ['127.0.0.1', 'testuser', 'known device'],
    ],
  );
});

test('fifty at once, over many connections: five are looked at', async (t) => {
  const program = await startProgram(t, { settings });
  const all = await Promise.all(
    Array.from({ length: 50 }, (_, i) => program.ask('POST', '/login', { json: wrong, from: `127.0.0.${i + 2}` })),
  );
  for (const answer of all) assertRefused(answer, answer.status === 401 ? 'credentials_invalid' : 'too_many_attempts');
  assert.equal(all.filter(({ status }) => status === 401).length, 5);
});

test('fifty who know the password, at once: none is taken for a guess', async (t) => {
  const program = await startProgram(t, { settings });
  const all = await Promise.all(
    Array.from({ length: 50 }, (_, i) => program.ask('POST', '/login', { json: demoUser, from: `127.0.0.${i + 2}` })),
  );
  for (const answer of all) assert.equal(answer.status, 200, answer.text);
  assert.equal(await lock(program, wrong), 5, 'and all were given back');
});

test('who has collected devices with a stolen password has no guesses at the next one', async (t) => {
  const program = await startProgram(t, { settings });
  const devices: string[] = [];
  for (let i = 0; i < 8; i += 1) devices.push((await logIn(program)).device);
  const env = { PORTCULLIS_DATA_DIR: program.folder };
  const changed = await runCommand(['users', 'set-password', 'testuser', '--dev', '--password-stdin'], {
    env,
    input: 'another long sentence',
  });
  assert.equal(changed.code, 0, changed.stderr);
  const all = [];
  for (const device_token of devices)
    for (let i = 0; i < 3; i += 1) all.push(await program.ask('POST', '/login', { json: { ...demoUser, device_token } }));
  assert.equal(all.filter(({ status }) => status === 401).length, 5);
  assert.equal(all.filter(({ status }) => status === 429).length, 19);
});

test('a browser is known by its cookie, which outlives the session', async (t) => {
  const program = await startProgram(t, { settings: wideLimits });
  const first = await askForCookies(program);
  const device = cookiesOf(first).find(({ name }) => name === '__Host-portcullis-device')?.value ?? '';
  const { csrf, ...tokens } = signedBy(first);
  const headers = { origin: ownOrigin(program), 'x-csrf-token': csrf };
  const left = await program.ask('POST', '/logout', { headers: { ...headers, cookie: cookieHeader(tokens) } });
  assert.deepEqual([left.status, cookiesOf(left).some(({ name }) => name.endsWith('device'))], [200, false]);
  await lock(program, wrong);
  assertRefused(await askForCookies(program), 'too_many_attempts');
  const cookie = `__Host-portcullis-device=${device}`;
  assertRefused(await program.ask('POST', '/login', { json: demoUser, headers: { cookie } }), 'too_many_attempts', 'read where asked for');
  const known = await askForCookies(program, { headers: { cookie } });
  assert.equal(known.status, 200, known.text);
  assert.equal(cookiesOf(known).length, 3);
  const twice = await askForCookies(program, { headers: { cookie: `${cookie}; ${cookie}` } });
  assertRefused(twice, 'cookie_duplicated');
});

test('kill -9: what was tried stays counted, also what was in flight; unlocked by the operator, the next is let in', async (t) => {
  const folder = folderFor(t);
  const start = () => startProgram(t, { folder, settings });
  let program = await start();
  const { device } = await logIn(program);
  assert.equal(await lock(program, { ...wrong, username: 'nobody' }), 5);
  // In flight: the hash of a login is 14 ms, and its attempt is counted before that.
  const inFlight = Promise.allSettled(Array.from({ length: 5 }, () => program.ask('POST', '/login', { json: wrong, from: '127.0.0.2' })));
  await wait(8);
  await program.stop('SIGKILL');
  const answered = (await inFlight).filter(({ status }) => status === 'fulfilled').length;

  program = await start();
  assertRefused(await program.ask('POST', '/login', { json: { ...demoUser, username: 'nobody' } }), 'too_many_attempts');
  assert.ok(answered + (await lock(program, wrong)) <= 5, 'no guess was for nothing');
  assertRefused(await program.ask('POST', '/login', { json: demoUser }), 'too_many_attempts');
  assert.equal(
    (await program.ask('POST', '/login', { json: { ...demoUser, device_token: device } })).status,
    200,
    'a device is known still',
  );

  const env = { PORTCULLIS_DATA_DIR: folder };
  const other = await runCommand(['users', 'unlock', 'testuser', '--dev'], {
    env: { ...env, PORTCULLIS_MASTER_SECRET: 'q3ZkT0v9yX7uB1nLw5cRj8sHd2fGm6aE4pKi' },
  });
  assert.equal(other.code, 2);
  assert.match(other.stderr, /the master secret does not open the key/);
  assertRefused(await program.ask('POST', '/login', { json: demoUser }), 'too_many_attempts');
  const unlocked = await runCommand(['users', 'unlock', 'TestUser', '--dev', '--json'], { env });
  assert.deepEqual([unlocked.code, JSON.parse(unlocked.stdout).guessesCleared], [0, 5]);
  assert.equal((await program.ask('POST', '/login', { json: demoUser })).status, 200);
});
