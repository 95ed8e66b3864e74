import assert from 'node:assert/strict';
import { createHmac } from 'node:crypto';
import { describe, test } from 'node:test';
import { decodeJwt } from 'jose';
import type { ProblemCode } from '../packages/server/src/domain/problem.ts';
import { type Mint, openMint } from './support/mint.ts';
import { demoUser, folderFor, logIn, type Program, sharedProgram, startProgram, wideLimits } from './support/program.ts';
import { assertRefused } from './support/refusal.ts';

let mint: Mint & { readonly jwk: { readonly x?: string; readonly kid?: string } };
const program = sharedProgram(wideLimits, async (started) => {
  mint = await openMint(started);
});

const ask: Program['ask'] = (...request) => program.ask(...request);
const isIn = async (access: string): Promise<boolean> => (await ask('GET', '/protected', { bearer: access })).status === 200;

describe('the rows that let in', () => {
  test('POST /login', async () => {
    const { status, json, headers } = await ask('POST', '/login', { json: demoUser });
    assert.equal(status, 200);
    assert.equal(headers['content-type'], 'application/json; charset=utf-8');
    assert.deepEqual(
      { ...json, access_token: '', refresh_token: '', device_token: '' },
      { access_token: '', refresh_token: '', device_token: '', token_type: 'Bearer', expires_in: 900 },
    );
    assert.match(json.refresh_token, /^prt_[\w-]{97}$/);
    assert.match(json.device_token, /^pdt_[\w-]{72}$/);
    const { iat = 0, exp = 0, ...claims } = decodeJwt(json.access_token);
    assert.equal(exp - iat, 900);
    assert.deepEqual(Object.keys(claims).sort(), ['aud', 'auth_time', 'client_id', 'iss', 'jti', 'nbf', 'scope', 'sid', 'sub', 'username']);
  });

  test('GET /protected, and HEAD the same without a body', async () => {
    const { access } = await logIn(program);
    const got = await ask('GET', '/protected', { bearer: access });
    assert.equal(`${got.status} ${got.text}`, '200 {"logged_in_as":"testuser"}');
    const head = await ask('HEAD', '/protected', { bearer: access });
    assert.equal(`${head.status} ${head.text}`, '200 ');
    const steady = ({ headers: { 'x-request-id': _, date: __, ratelimit: ___, ...rest } }: typeof got) => rest;
    assert.deepEqual(steady(head), steady(got));
  });

  test('the scheme is read in any case (RFC 9110 section 11.1)', async () => {
    const { access } = await logIn(program);
    assert.equal((await ask('GET', '/protected', { headers: { authorization: `bEARER ${access}` } })).status, 200);
  });

  test('POST /refresh hands out the next pair, and the same one to who asks twice', async () => {
    const { access, refresh } = await logIn(program);
    const next = await ask('POST', '/refresh', { bearer: refresh });
    assert.equal(next.status, 200);
    assert.deepEqual(
      { ...next.json, access_token: '', refresh_token: '' },
      { access_token: '', refresh_token: '', token_type: 'Bearer', expires_in: 900 },
    );
    assert.notEqual(next.json.refresh_token, refresh);
    const again = await ask('POST', '/refresh', { bearer: refresh });
    assert.equal(again.json.refresh_token, next.json.refresh_token);
    for (const token of [access, next.json.access_token, again.json.access_token]) assert.ok(await isIn(token));
  });

  test('GET /healthz, /readyz and the public keys', async () => {
    for (const path of ['/healthz', '/readyz']) {
      const { status, text } = await ask('GET', path);
      assert.equal(`${status} ${text}`, '200 {"status":"ok"}');
    }
    const { status, json, headers } = await ask('GET', '/.well-known/jwks.json');
    assert.equal(status, 200);
    assert.match(String(headers['cache-control']), /^public, max-age=\d+$/);
    assert.deepEqual(
      json.keys.map((key: object) => Object.keys(key).sort()),
      [['alg', 'crv', 'kid', 'kty', 'use', 'x']],
    );
  });
});

// The disabled user, and what each of the three costs: login-cost.test.ts.
test('wrong password, unknown user, empty ones: the same answer but for its id', async () => {
  const answers = [];
  for (const json of [
    { ...demoUser, password: 'password124' },
    { ...demoUser, username: 'nobody' },
    { ...demoUser, password: '' },
    { ...demoUser, username: '' },
  ]) {
    const answer = await ask('POST', '/login', { json });
    assertRefused(answer, 'credentials_invalid');
    assert.equal(answer.json.msg, 'Invalid credentials');
    const { 'x-request-id': _, date: __, ratelimit: ___, ...headers } = answer.headers;
    answers.push({ headers, json: { ...answer.json, instance: '' } });
  }
  for (const answer of answers) assert.deepEqual(answer, answers[0]);
});

/** For a header that is refused: what it is, and the row that answers. `access` and `refresh` are good ones of one session. */
type Refusals = readonly (readonly [
  what: string,
  header: (good: { access: string; refresh: string }) => string | undefined | Promise<string | undefined>,
  status: number,
  code: ProblemCode,
  msg: string,
])[];

const SCHEME = "Missing 'Bearer' type in 'Authorization' header. Expected 'Authorization: Bearer <JWT>'";
const MALFORMED = "Bad Authorization header. Expected 'Authorization: Bearer <JWT>'";

const ofAnyRoute: Refusals = [
  ['no header', () => undefined, 401, 'token_missing', 'Missing Authorization Header'],
  ['an empty one', () => '', 401, 'token_missing', 'Missing Authorization Header'],
  ['Basic', () => 'Basic dGVzdDp0ZXN0', 401, 'authorization_scheme', SCHEME],
  ['a good token under another scheme', ({ access }) => `Token ${access}`, 401, 'authorization_scheme', SCHEME],
  ['a good token alone', ({ access }) => access, 401, 'authorization_scheme', SCHEME],
  ['a tab for the blank', ({ access }) => `Bearer\t${access}`, 401, 'authorization_scheme', SCHEME],
  ['the scheme alone', () => 'Bearer', 401, 'authorization_malformed', MALFORMED],
  ['two tokens', ({ access }) => `Bearer ${access} ${access}`, 401, 'authorization_malformed', MALFORMED],
  ['two refresh tokens: form before kind', ({ refresh }) => `Bearer ${refresh} ${refresh}`, 401, 'authorization_malformed', MALFORMED],
  ['a comma list', ({ access }) => `Bearer ${access}, Bearer ${access}`, 401, 'authorization_malformed', MALFORMED],
];

const seconds = () => Math.floor(Date.now() / 1_000);
const past = () => ({ iat: seconds() - 1_000, nbf: seconds() - 1_000, exp: seconds() - 1 });
const flip = (token: string): string => token.slice(0, -10) + (token.at(-10) === 'A' ? 'B' : 'A') + token.slice(-9);
const part = (value: unknown): string => Buffer.from(JSON.stringify(value)).toString('base64url');

const INVALID = 'Token is invalid';
const EXPIRED = 'Token has expired';
const ONLY_ACCESS = 'Only non-refresh tokens are allowed';
const invalid = (what: string, make: (access: string) => string | Promise<string>): Refusals[number] => [
  what,
  async ({ access }) => `Bearer ${await make(access)}`,
  401,
  'token_invalid',
  INVALID,
];

const ofAccess: Refusals = [
  ['a refresh token', ({ refresh }) => `Bearer ${refresh}`, 401, 'access_token_required', ONLY_ACCESS],
  ['what only looks like one: kind before form', () => 'Bearer prt_', 401, 'access_token_required', ONLY_ACCESS],
  ['expired', async ({ access }) => `Bearer ${await mint(access, past())}`, 401, 'token_expired', EXPIRED],
  ['expires now: no leeway', async ({ access }) => `Bearer ${await mint(access, { exp: seconds() })}`, 401, 'token_expired', EXPIRED],
  invalid('a word', () => 'x'),
  invalid('two dots', () => '..'),
  invalid('four parts', (access) => `${access}.x`),
  invalid('longer than 4 KiB', (access) => access + 'A'.repeat(4_096)),
  invalid('a changed signature', flip),
  invalid('a changed signature on an expired one: signature before expiry', async (access) => flip(await mint(access, past()))),
  invalid('changed claims under the old signature', (access) => {
    const [head, , signature] = access.split('.');
    return `${head}.${part({ ...decodeJwt(access), username: 'root' })}.${signature}`;
  }),
  invalid(
    'unused bits of the last character',
    (access) => access.slice(0, -1) + String.fromCharCode(access.charCodeAt(access.length - 1) + 1),
  ),
  invalid('padding', (access) => `${access}==`),
  invalid('another issuer', (access) => mint(access, { iss: 'https://other.example' })),
  invalid('another issuer, expired: claims before expiry', (access) => mint(access, { ...past(), iss: 'https://other.example' })),
  invalid('another audience', (access) => mint(access, { aud: 'other' })),
  invalid('no audience', (access) => mint(access, { aud: undefined })),
  invalid('no expiry', (access) => mint(access, { exp: undefined })),
  invalid('an expiry that is text', (access) => mint(access, { exp: '9999999999' })),
  invalid('no subject', (access) => mint(access, { sub: undefined })),
  invalid('no session', (access) => mint(access, { sid: undefined })),
  invalid('issued beyond the leeway', (access) => mint(access, { iat: seconds() + 120 })),
  invalid('not valid yet', (access) => mint(access, { nbf: seconds() + 120 })),
  invalid('typ JWT', (access) => mint(access, {}, { typ: 'JWT' })),
  invalid('an unknown key', (access) => mint(access, {}, { kid: 'other' })),
  invalid('no key named', (access) => mint(access, {}, { kid: undefined })),
  invalid('alg none', (access) => `${part({ alg: 'none', typ: 'at+jwt', kid: mint.jwk.kid })}.${access.split('.')[1]}.`),
  invalid('HS256 with the public key for a secret', (access) => {
    const signed = `${part({ alg: 'HS256', typ: 'at+jwt', kid: mint.jwk.kid })}.${access.split('.')[1]}`;
    return `${signed}.${createHmac('sha256', Buffer.from(mint.jwk.x ?? '', 'base64url'))
      .update(signed)
      .digest('base64url')}`;
  }),
];

const ofRefresh: Refusals = [
  ['an access token', ({ access }) => `Bearer ${access}`, 401, 'refresh_token_required', 'Only refresh tokens are allowed'],
  ['what only looks like one: kind before form', () => 'Bearer a.b.c', 401, 'refresh_token_required', 'Only refresh tokens are allowed'],
  ['a word', () => 'Bearer x', 401, 'token_invalid', INVALID],
  ['the prefix alone', () => 'Bearer prt_', 401, 'token_invalid', INVALID],
  ['a changed token', ({ refresh }) => `Bearer ${flip(refresh)}`, 401, 'token_invalid', INVALID],
  ['a token and more', ({ refresh }) => `Bearer ${refresh}x`, 401, 'token_invalid', INVALID],
];

describe('who is not let in', () => {
  for (const [method, path, refusals] of [
    ['GET', '/protected', [...ofAnyRoute, ...ofAccess]],
    ['HEAD', '/protected', ofAccess.slice(0, 3)],
    ['POST', '/refresh', [...ofAnyRoute, ...ofRefresh]],
    ['POST', '/logout', [...ofAnyRoute.slice(1), ...ofAccess]],
  ] as const) {
    test(`${method} ${path}: ${refusals.length} refusals, and the session lives on`, async () => {
      const good = await logIn(program);
      for (const [what, header, status, code, msg] of refusals) {
        const authorization = await header(good);
        const answer = await ask(method, path, { headers: authorization === undefined ? {} : { authorization } });
        assert.equal(answer.status, status, what);
        if (method === 'HEAD') {
          assert.equal(answer.text, '', what);
          continue;
        }
        assertRefused(answer, code, what);
        assert.equal(answer.json.msg, msg, what);
      }
      assert.ok(await isIn(good.access));
      assert.equal((await ask('POST', '/refresh', { bearer: good.refresh })).status, 200);
    });
  }

  test('nothing of a refused token is in the answer', async () => {
    const { access } = await logIn(program);
    const bad = flip(access);
    const { text, headers } = await ask('GET', '/protected', { bearer: bad });
    for (const piece of bad.split('.')) assert.ok(!(text + JSON.stringify(headers)).includes(piece.slice(0, 20)));
  });

  test('what the minted tokens were made like does let in', async () => {
    const { access } = await logIn(program);
    assert.ok(await isIn(await mint(access, { exp: seconds() + 30 })));
    assert.ok(await isIn(await mint(access, { iat: seconds() + 30, nbf: seconds() + 30 })), 'leeway');
  });
});

describe('logout', () => {
  const assertOut = async ({ access, refresh }: { access: string; refresh: string }): Promise<void> => {
    assertRefused(await ask('GET', '/protected', { bearer: access }), 'token_revoked');
    assertRefused(await ask('POST', '/refresh', { bearer: refresh }), 'token_revoked');
    assertRefused(await ask('POST', '/logout', { bearer: access }), 'token_revoked');
  };
  const assertLoggedOut = (answer: Awaited<ReturnType<typeof ask>>): void =>
    assert.equal(`${answer.status} ${answer.text}`, '200 {"msg":"Successfully logged out"}');

  test('by access token: that session ends, all of it, and no other one', async () => {
    const [mine, other] = [await logIn(program), await logIn(program)];
    const next = await ask('POST', '/refresh', { bearer: mine.refresh });
    assertLoggedOut(await ask('POST', '/logout', { bearer: mine.access }));
    await assertOut(mine);
    await assertOut({ access: next.json.access_token, refresh: next.json.refresh_token });
    assert.ok(await isIn(other.access));
    assert.equal((await ask('POST', '/refresh', { bearer: other.refresh })).status, 200);
  });

  test('revoked is said of what is otherwise good alone', async () => {
    const { access, refresh } = await logIn(program);
    const [expired, foreign] = [await mint(access, past()), await mint(access, { aud: 'other' })];
    assertLoggedOut(await ask('POST', '/logout', { bearer: access }));
    assertRefused(await ask('GET', '/protected', { bearer: expired }), 'token_expired');
    assertRefused(await ask('GET', '/protected', { bearer: foreign }), 'token_invalid');
    assertRefused(await ask('GET', '/protected', { bearer: flip(access) }), 'token_invalid');
    assertRefused(await ask('POST', '/refresh', { bearer: flip(refresh) }), 'token_invalid');
    assertRefused(await ask('GET', '/protected', { bearer: access }), 'token_revoked');
  });

  test('by refresh token in the body, as often as one likes', async () => {
    const mine = await logIn(program);
    for (const _ of [1, 2]) assertLoggedOut(await ask('POST', '/logout', { json: { refresh_token: mine.refresh } }));
    await assertOut(mine);
  });

  test('by one that has rotated, too', async () => {
    const mine = await logIn(program);
    const next = await ask('POST', '/refresh', { bearer: mine.refresh });
    assertLoggedOut(await ask('POST', '/logout', { json: { refresh_token: mine.refresh } }));
    await assertOut({ access: next.json.access_token, refresh: next.json.refresh_token });
  });

  test('of what is no refresh token of ours, nothing is told and nothing ends', async () => {
    const mine = await logIn(program);
    for (const refresh_token of ['', 'x', 'prt_', mine.access, flip(mine.refresh), `${mine.refresh} `, '\ud800']) {
      assertLoggedOut(await ask('POST', '/logout', { json: { refresh_token } }));
    }
    assert.ok(await isIn(mine.access));
  });

  test('where both are sent, the access token counts', async () => {
    const [mine, other] = [await logIn(program), await logIn(program)];
    assertLoggedOut(await ask('POST', '/logout', { bearer: mine.access, json: { refresh_token: other.refresh } }));
    await assertOut(mine);
    assert.ok(await isIn(other.access));
    assertRefused(await ask('POST', '/logout', { bearer: mine.access, json: { refresh_token: other.refresh } }), 'token_revoked');
    assert.ok(await isIn(other.access));
  });

  test('with neither: Missing Authorization Header', async () => {
    for (const json of [undefined, {}, null]) {
      const answer = await ask('POST', '/logout', json === undefined ? {} : { json });
      assertRefused(answer, 'token_missing');
      assert.equal(answer.json.msg, 'Missing Authorization Header');
    }
  });

  test('with a refresh token in the header: only in the body it counts', async () => {
    const mine = await logIn(program);
    assertRefused(await ask('POST', '/logout', { bearer: mine.refresh }), 'access_token_required');
    assertRefused(await ask('POST', '/logout', { bearer: mine.refresh, json: { refresh_token: mine.refresh } }), 'access_token_required');
    assert.ok(await isIn(mine.access));
  });
});

test('what was said holds after a restart, also one by kill -9 right after the answer', async (t) => {
  const folder = folderFor(t);
  const start = () => startProgram(t, { folder, settings: { ...wideLimits, ISSUER: 'https://localhost' } }); // which the port would else change
  let running = await start();
  const [stays, leaves, leavesLate] = [await logIn(running), await logIn(running), await logIn(running)];
  assert.equal((await running.ask('POST', '/logout', { bearer: leaves.access })).status, 200);
  assert.equal(await running.stop(), 0);

  running = await start();
  assertRefused(await running.ask('GET', '/protected', { bearer: leaves.access }), 'token_revoked');
  assertRefused(await running.ask('POST', '/refresh', { bearer: leaves.refresh }), 'token_revoked');
  assert.equal((await running.ask('GET', '/protected', { bearer: stays.access })).status, 200);
  const next = await running.ask('POST', '/refresh', { bearer: stays.refresh });
  assert.equal(next.status, 200);
  assert.equal((await running.ask('POST', '/logout', { bearer: leavesLate.access })).status, 200);
  assert.equal(await running.stop('SIGKILL'), 'SIGKILL');

  running = await start();
  assertRefused(await running.ask('GET', '/protected', { bearer: leavesLate.access }), 'token_revoked');
  assertRefused(await running.ask('POST', '/refresh', { bearer: leavesLate.refresh }), 'token_revoked');
  assert.equal((await running.ask('GET', '/protected', { bearer: next.json.access_token })).status, 200);
  assert.equal((await running.ask('POST', '/refresh', { bearer: next.json.refresh_token })).status, 200);
});
