import assert from 'node:assert/strict';
import { setTimeout as wait } from 'node:timers/promises';
import { describe, test } from 'node:test';
import { type Answer, type Ask, demoUser, logIn, sharedProgram, startProgram, wideLimits } from './support/program.ts';
import { assertLimited, assertRefused } from './support/refusal.ts';
import { openHttp2 } from './support/speak.ts';

/** Each test asks from an address of its own, so that one program serves them all. */
let last = 1;
const newAddress = (): string => `127.0.0.${(last += 1)}`;
const good = { json: demoUser };

describe('as they are by default', () => {
  const program = sharedProgram();

  const askFrom =
    (from: string) =>
    (method: string, path: string, ask: Ask = {}): Promise<Answer> =>
      program.ask(method, path, { ...ask, from });
  const logInFrom = (from: string) => logIn({ ...program, ask: (method, path, ask) => program.ask(method, path, { ...ask, from }) });

  test('three logins a minute from one address, whatever they hold; others go on', async () => {
    const forms: Ask[][] = [
      [good, good, good],
      [{ json: { ...demoUser, password: 'x' } }, { json: { ...demoUser, username: 'x' } }, good],
      [{ body: '{' }, { body: 'x', headers: { 'content-type': 'text/plain' } }, { body: 'x'.repeat(20_000) }],
      [{}, { json: [] }, { json: { username: ['testuser'], password: 'password123' } }],
      [
        { ...good, headers: { 'content-encoding': 'gzip' } },
        { ...good, headers: { host: 'a/b' } },
        { ...good, headers: { host: 'me@localhost' } },
      ],
    ];
    for (const three of forms) {
      const ask = askFrom(newAddress());
      for (const attempt of three) assert.notEqual((await ask('POST', '/login', attempt)).status, 429);
      for (const fourth of [good, { body: '{' }, {}, { json: { ...demoUser, password: 'x' } }])
        assertLimited(await ask('POST', '/login', fourth), 'login', 3, 60);
    }
    assert.equal((await askFrom(newAddress())('POST', '/login', good)).status, 200);
  });

  test('of forty logins at once, three get through', async () => {
    const ask = askFrom(newAddress());
    const answers = await Promise.all(Array.from({ length: 40 }, () => ask('POST', '/login', good)));
    assert.equal(answers.filter(({ status }) => status === 200).length, 3);
    for (const answer of answers) if (answer.status !== 200) assertLimited(answer, 'login', 3, 60);
  });

  test('what is left is said on each answer', async () => {
    const ask = askFrom(newAddress());
    for (const [left, attempt] of [
      [2, good],
      [1, { json: {} }],
      [0, { json: { ...demoUser, password: 'x' } }],
    ] as const) {
      const { headers } = await ask('POST', '/login', attempt);
      assert.equal(headers['ratelimit-policy'], '"login";q=3;w=60');
      assert.match(String(headers.ratelimit), new RegExp(`^"login";r=${left};t=([1-9]|[1-5]\\d|60)$`));
      assert.equal(headers['retry-after'], undefined);
    }
  });

  test('five of /protected: good, bad and HEAD together, and 429 comes before any look at the token', async () => {
    const from = newAddress();
    const ask = askFrom(from);
    const { access, refresh } = await logInFrom(from);
    assert.equal((await ask('GET', '/protected', { bearer: access })).status, 200);
    assert.equal((await ask('HEAD', '/protected', { bearer: access })).status, 200);
    assertRefused(await ask('GET', '/protected'), 'token_missing');
    assertRefused(await ask('GET', '/protected', { bearer: 'x' }), 'token_invalid');
    assertRefused(await ask('GET', '/protected', { bearer: refresh }), 'access_token_required');
    for (const bearer of [access, 'x', refresh, '', 'x y', undefined])
      assertLimited(await ask('GET', '/protected', bearer === undefined ? {} : { bearer }), 'protected', 5, 60);
    const head = await ask('HEAD', '/protected', { bearer: access });
    assert.equal(`${head.status} ${head.text} ${head.headers['retry-after'] !== undefined}`, '429  true');
    assert.equal((await askFrom(newAddress())('GET', '/protected', { bearer: access })).status, 200, 'the session lives');
  });

  test('other routes have their own: /refresh and /logout thirty', async () => {
    const from = newAddress();
    const ask = askFrom(from);
    const { access, refresh } = await logInFrom(from);
    for (let i = 0; i < 30; i += 1) assertRefused(await ask('POST', '/logout'), 'token_missing');
    assertLimited(await ask('POST', '/logout', { bearer: access }), 'logout', 30, 60);
    assertLimited(await ask('POST', '/logout', { json: { refresh_token: refresh } }), 'logout', 30, 60);
    const next = await ask('POST', '/refresh', { bearer: refresh });
    assert.equal(next.status, 200, 'nobody was logged out');
    for (let i = 1; i < 30; i += 1) assertRefused(await ask('POST', '/refresh', { bearer: 'x' }), 'token_invalid');
    assertLimited(await ask('POST', '/refresh', { bearer: next.json.refresh_token }), 'refresh', 30, 60);
  });

  test('sixty failed authentications over all routes, then none is looked at; open routes stay', async () => {
    const from = newAddress();
    const ask = askFrom(from);
    const { access, refresh } = await logInFrom(from);
    for (let i = 0; i < 30; i += 1) assertRefused(await ask('POST', '/refresh', { bearer: 'x' }), 'token_invalid');
    for (let i = 0; i < 28; i += 1) assertRefused(await ask('POST', '/logout', { bearer: 'x' }), 'token_invalid');
    assertRefused(await ask('GET', '/protected', { headers: { authorization: 'Basic x' } }), 'authorization_scheme');
    assertRefused(await ask('GET', '/protected'), 'token_missing');
    assertLimited(await ask('GET', '/protected', { bearer: access }), 'auth-failures', 60, 60);
    assertLimited(await ask('POST', '/logout', { bearer: access }), 'auth-failures', 60, 60);
    assert.equal((await ask('GET', '/healthz')).status, 200);
    assert.equal((await ask('POST', '/login', good)).status, 200, 'a login is counted by itself');
    const other = askFrom(newAddress());
    assert.equal((await other('GET', '/protected', { bearer: access })).status, 200);
    assert.equal((await other('POST', '/refresh', { bearer: refresh })).status, 200);
  });
});

describe('as they are set', () => {
  test('failed authentications: never more than the limit, though many come at once', async (t) => {
    const program = await startProgram(t, { settings: { ...wideLimits, AUTH_FAILURE_LIMITS: '4 per minute' } });
    const { access } = await logIn(program);
    for (let i = 0; i < 5; i += 1)
      assertRefused(await program.ask('POST', '/login', { json: { ...demoUser, password: 'x' } }), 'credentials_invalid');
    assert.equal(
      (await program.ask('GET', '/protected', { bearer: access })).status,
      200,
      'a wrong password is no failed token: it has the limits of /login alone',
    );
    const ways: (() => Promise<Answer>)[] = [
      () => program.ask('GET', '/protected', { bearer: `${access.slice(0, -4)}AAAA` }),
      () => program.ask('POST', '/refresh', { bearer: 'x' }),
      () => program.ask('POST', '/logout'),
    ];
    const answers = await Promise.all(Array.from({ length: 20 }, () => ways.map((way) => way())).flat());
    assert.equal(answers.filter(({ status }) => status === 401).length, 4);
    for (const answer of answers) if (answer.status !== 401) assertLimited(answer, 'auth-failures', 4, 60);
    assertLimited(await program.ask('POST', '/refresh', { bearer: 'x' }), 'auth-failures', 4, 60);
    assert.equal((await program.ask('GET', '/protected', { bearer: access, from: '127.0.0.2' })).status, 200);
  });

  test('open routes count each for itself, and all that is nowhere together, over both protocols', async (t) => {
    const program = await startProgram(t, { settings: { ...wideLimits, DEFAULT_LIMITS: '3 per minute' } });
    for (const path of ['/healthz', '/.well-known/jwks.json']) {
      for (const method of ['GET', 'HEAD', 'GET']) assert.equal((await program.ask(method, path)).status, 200);
      const refused = await program.ask('GET', path);
      assertLimited(refused, path === '/healthz' ? 'healthz' : 'well-known-jwks-json', 3, 60);
      assert.equal(refused.headers['cache-control'], 'no-store');
    }
    for (let i = 0; i < 5; i += 1) assert.equal((await program.ask('OPTIONS', '/login')).status, 204, 'a preflight costs nothing');
    const unheard = await openHttp2(t, program);
    assertRefused(await unheard({ ':method': 'FOO', ':path': '/x' }), 'not_found');
    assertRefused(await program.ask('DELETE', '/login'), 'method_not_allowed');
    assertRefused(await program.ask('GET', '/%'), 'path_malformed');
    for (const [method, path] of [
      ['GET', '/nope'],
      ['OPTIONS', '/nope'],
      ['GET', '/login'],
      ['GET', '/%'],
    ] as const) {
      const refused = await program.ask(method, path);
      assertLimited(refused, 'unknown', 3, 60);
      assert.equal(refused.headers.allow, undefined);
    }
    assertLimited(await unheard({ ':method': 'FOO', ':path': '/healthz' }), 'unknown', 3, 60);
    assert.equal((await program.ask('POST', '/login', good)).status, 200);
  });

  test('by username: whoever asks, in whatever spelling; others and sessions untouched', async (t) => {
    const program = await startProgram(t, { settings: { ...wideLimits, LOGIN_LIMITS: '1000 per minute by ip; 3 per minute by username' } });
    const attempt = (username: string, password: string, from = newAddress()) =>
      program.ask('POST', '/login', { json: { username, password }, from });
    const opened = await attempt('testuser', 'password123');
    assert.equal(opened.headers['ratelimit-policy'], '"login";q=1000;w=60, "login-by-username";q=3;w=60');
    assertRefused(await attempt('TESTUSER', 'x'), 'credentials_invalid');
    assertRefused(await attempt(' ｔestuser ', 'x'), 'credentials_invalid');
    for (const name of ['testuser', 'TestUser', 'ｔｅｓｔｕｓｅｒ'])
      assertLimited(await attempt(name, 'password123'), 'login-by-username', 3, 60);
    for (const _ of [1, 2, 3]) assertRefused(await attempt('nobody', 'x'), 'credentials_invalid');
    assertLimited(await attempt('nobody', 'x'), 'login-by-username', 3, 60);
    assert.equal((await program.ask('GET', '/protected', { bearer: opened.json.access_token })).status, 200);
  });

  test('by caller: one user from everywhere, in all sessions', async (t) => {
    const program = await startProgram(t, {
      settings: { ...wideLimits, PROTECTED_LIMITS: '1000 per minute by ip; 2 per minute by caller' },
    });
    const [one, two] = [await logIn(program), await logIn(program)];
    assertRefused(await program.ask('GET', '/protected', { bearer: `${one.access.slice(0, -4)}AAAA` }), 'token_invalid');
    assert.equal(
      (await program.ask('GET', '/protected', { bearer: one.access, from: newAddress() })).status,
      200,
      'an unverified word costs nobody anything',
    );
    assert.equal((await program.ask('GET', '/protected', { bearer: two.access, from: newAddress() })).status, 200);
    assertLimited(await program.ask('GET', '/protected', { bearer: one.access, from: newAddress() }), 'protected-by-caller', 2, 60);
    assertRefused(await program.ask('GET', '/protected'), 'token_missing');
  });

  test('several at once: the tightest is told, one that refuses counts on none', async (t) => {
    const program = await startProgram(t, { settings: { ...wideLimits, PROTECTED_LIMITS: '5 per minute; 2 per 3 seconds' } });
    const { access } = await logIn(program);
    const ask = () => program.ask('GET', '/protected', { bearer: access });
    const first = await ask();
    assert.equal(first.headers['ratelimit-policy'], '"protected";q=5;w=60, "protected-by-ip";q=2;w=3');
    assert.match(String(first.headers.ratelimit), /^"protected-by-ip";r=1;t=[123]$/);
    assert.equal((await ask()).status, 200);
    for (const _ of [1, 2, 3]) assertLimited(await ask(), 'protected-by-ip', 2, 3);
    const refused = await ask();
    assertLimited(refused, 'protected-by-ip', 2, 3);
    await wait(Number(refused.headers['retry-after']) * 1_000);
    assert.equal((await ask()).status, 200, 'as Retry-After said, and with three of five counted, not seven');
  });
});
