import assert from 'node:assert/strict';
import { createHmac } from 'node:crypto';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import type { IncomingMessage } from 'node:http';
import { request } from 'node:https';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { setTimeout as wait } from 'node:timers/promises';
import { deriveKey } from '../packages/server/src/lib/seal.ts';
import { addUser } from '../packages/server/src/flows/add-user.ts';
import type { ProblemCode } from '../packages/server/src/domain/problem.ts';
import {
  ACCESS,
  askForCookies,
  cookieHeader,
  cookiesOf,
  logInByCookie,
  ownOrigin,
  REFRESH,
  type Signed,
  signedBy,
} from './support/cookies.ts';
import { openApp, PASSWORD } from './support/house.ts';
import { openMint, type Mint } from './support/mint.ts';
import { type Answer, demoUser, logIn, type Program, sharedProgram, startProgram, wideLimits } from './support/program.ts';
import { assertRefused } from './support/refusal.ts';
import { openHttp2 } from './support/speak.ts';

const APP = 'https://app.example.com';
const FOREIGN = { origin: 'https://evil.example', 'sec-fetch-site': 'cross-site' };
const entry = fileURLToPath(new URL('../examples/own-routes/server.ts', import.meta.url));

let mint: Mint;
const program = sharedProgram({ ...wideLimits, CORS_ORIGINS: APP }, async (started) => {
  mint = await openMint(started);
});
const ask: Program['ask'] = (...request) => program.ask(...request);

/** What a page of an allowed origin sends along by itself, and what it adds. */
const page = (csrf: string): Record<string, string> => ({ origin: APP, 'sec-fetch-site': 'same-site', 'x-csrf-token': csrf });
const refreshBy = (signed: Partial<Signed>, headers: Record<string, string> = page(signed.csrf ?? '')): Promise<Answer> =>
  ask('POST', '/refresh', { headers: { cookie: cookieHeader({ refresh: signed.refresh ?? '' }), ...headers } });
const logoutBy = (cookies: Partial<Signed>, headers: Record<string, string>, json?: unknown): Promise<Answer> =>
  ask('POST', '/logout', { headers: { cookie: cookieHeader(cookies), ...headers }, ...(json !== undefined && { json }) });
const whoIs = async ({ access }: Pick<Signed, 'access'>): Promise<string> => {
  const { status, json } = await ask('GET', '/protected', { headers: { cookie: cookieHeader({ access }) } });
  return status === 200 ? json.logged_in_as : json.code;
};

/** A refusal of the wire's form that has neither set nor cleared a cookie. */
function assertLeavesCookies(answer: Answer, code: ProblemCode, what = ''): void {
  assertRefused(answer, code, what);
  assert.equal(answer.headers['set-cookie'], undefined, what);
}

/** The session is as it was: its tokens open and its refresh token is still the chain's last. */
async function assertUntouched(signed: Signed): Promise<Signed> {
  assert.equal(await whoIs(signed), 'testuser');
  return signedBy(await refreshBy(signed));
}

/** Requests that no page of ours sends, each with what is wrong with it. */
const strangers: readonly (readonly [what: string, headers: Record<string, string>])[] = [
  ['no Origin', {}],
  ['Origin null', { origin: 'null' }],
  ['a sibling that is not allowed', { origin: 'https://evil.example.com', 'sec-fetch-site': 'same-site' }],
  ['another site', FOREIGN],
  ['an allowed origin on another site', { origin: APP, 'sec-fetch-site': 'cross-site' }],
  ['an allowed origin with a port', { origin: `${APP}:8443` }],
  ['an allowed origin over HTTP', { origin: APP.replace('https', 'http') }],
  ['an origin that begins like an allowed one', { origin: `${APP}.evil.example` }],
  ['the origin that Host names', { origin: 'https://evil.example', host: 'evil.example' }],
];

describe('login', () => {
  test('sets two cookies, each as long as its token, and gives no token in the body', async () => {
    for (const origin of [ownOrigin(program), APP]) {
      const answer = await askForCookies(program, { headers: { origin } });
      assert.equal(answer.status, 200, answer.text);
      assert.deepEqual(Object.keys(answer.json), ['expires_in', 'csrf_token']);
      assert.equal(answer.json.expires_in, 900);
      const [access, refresh, device, ...more] = cookiesOf(answer);
      assert.deepEqual(
        [access?.name, access?.attributes, refresh?.name, refresh?.attributes, device?.name, device?.attributes, more],
        [
          ACCESS,
          'Path=/; Max-Age=900; Secure; HttpOnly; SameSite=Strict',
          REFRESH,
          'Path=/; Max-Age=604800; Secure; HttpOnly; SameSite=Strict',
          '__Host-portcullis-device',
          'Path=/; Max-Age=15552000; Secure; HttpOnly; SameSite=Strict',
          [],
        ],
      );
      for (const token of [access?.value ?? '', refresh?.value ?? '']) assert.ok(token !== '' && !answer.text.includes(token));
      assert.equal(answer.headers['cache-control'], 'no-store');
      await assertUntouched(signedBy(answer));
    }
  });

  test('the CSRF token is bound to the session and to the secret', async () => {
    const { access, csrf } = await logInByCookie(program);
    const { sid } = JSON.parse(Buffer.from(access.split('.')[1] ?? '', 'base64url').toString());
    const secret = readFileSync(join(program.folder, 'master-secret'), 'utf8').trim();
    assert.equal(csrf, createHmac('sha256', deriveKey(secret, 'csrf')).update(sid).digest('base64url'));
    assert.notEqual((await logInByCookie(program)).csrf, csrf);
  });

  test('where it is not asked for, there is no cookie, and no Origin is needed', async () => {
    for (const json of [demoUser, { ...demoUser, transport: 'bearer' }])
      for (const headers of [{}, FOREIGN]) {
        const answer = await ask('POST', '/login', { json, headers });
        assert.equal(answer.status, 200);
        assert.ok(answer.json.access_token && answer.json.refresh_token);
        assert.equal(answer.headers['set-cookie'], undefined);
      }
    for (const transport of ['cookies', 'Cookie', '', null, true, ['cookie']])
      assertLeavesCookies(await askForCookies(program, { json: { transport } }), 'body_invalid', String(transport));
  });

  test('is for pages of our own or an allowed origin: others are told so before a password is looked at', async () => {
    for (const [what, headers] of strangers)
      for (const password of [demoUser.password, 'wrong']) {
        const json = { ...demoUser, password, transport: 'cookie' };
        assertLeavesCookies(await ask('POST', '/login', { json, headers }), 'origin_refused', what);
      }
    assertLeavesCookies(await askForCookies(program, { json: { password: 'wrong' } }), 'credentials_invalid');
  });

  test('ends the session that was in the cookies before, and only when it succeeds (ASVS V7.2.4)', async () => {
    const first = await logInByCookie(program);
    const bystander = await logInByCookie(program);
    const headers = { cookie: cookieHeader(first) };
    assertLeavesCookies(await askForCookies(program, { headers, json: { password: 'wrong' } }), 'credentials_invalid');
    assertLeavesCookies(await askForCookies(program, { headers: { ...headers, origin: 'null' } }), 'origin_refused');
    assert.equal((await ask('POST', '/login', { json: demoUser, headers })).status, 200, 'a bearer login replaces nothing');
    assert.equal(await whoIs(first), 'testuser');

    const second = signedBy(await askForCookies(program, { headers }));
    assert.equal(await whoIs(first), 'token_revoked');
    assertLeavesCookies(await refreshBy(first), 'token_revoked');
    for (const stale of [cookieHeader(first), `${REFRESH}=prt_forged`, `${REFRESH}=`, `${ACCESS}=${bystander.access}`])
      signedBy(await askForCookies(program, { headers: { cookie: stale } }));
    const twice = `${cookieHeader(second)}; ${cookieHeader(second)}`;
    assertLeavesCookies(await askForCookies(program, { headers: { cookie: twice } }), 'cookie_duplicated');
    await assertUntouched(second);
    await assertUntouched(bystander);
  });

  test('a browser keeps what is set, however long names and settings are (ASVS V3.3.5)', async (t) => {
    const settings = { AUDIENCE: 'a'.repeat(200), SIGNING_ALG: 'RS256' };
    const { app, house } = await openApp(t, settings);
    const username = '🦔'.repeat(64);
    await addUser(house.services, username, PASSWORD);
    const { headers } = await app.inject({
      method: 'POST',
      url: '/login',
      headers: { host: 'localhost', origin: 'https://localhost' },
      payload: { username, password: PASSWORD, transport: 'cookie' },
    });
    const set = [headers['set-cookie'] ?? []].flat().map((text) => text.split(';', 1)[0] ?? '');
    assert.equal(set.length, 3);
    for (const pair of set) assert.ok(pair.length <= 4_096, `${pair.length} bytes`);
  });
});

describe('a request by access cookie', () => {
  test('which only reads needs nothing more', async () => {
    const signed = await logInByCookie(program);
    const cookie = cookieHeader(signed);
    for (const headers of [page(signed.csrf), FOREIGN])
      for (const method of ['GET', 'HEAD'])
        assert.equal((await ask(method, '/protected', { headers: { cookie, ...headers } })).status, 200);
  });

  test('which writes needs Origin and the CSRF token; a refusal leaves the body unread and nothing written', async (t) => {
    const own = await startProgram(t, { entry, settings: { ...wideLimits, CORS_ORIGINS: APP } });
    const signed = await logInByCookie(own);
    const other = await logInByCookie(own);
    const cookie = cookieHeader(signed);
    const write = (headers: Record<string, string>, body = '{"text":"milk"}') =>
      own.ask('POST', '/notes', { headers: { cookie, ...headers }, body });
    const notes = async () => (await own.ask('GET', '/notes', { headers: { cookie } })).json;

    for (const [what, headers] of strangers)
      assertLeavesCookies(await write({ 'x-csrf-token': signed.csrf, ...headers }, '{not JSON'), 'origin_refused', what);
    assertLeavesCookies(await write({ origin: APP }), 'csrf_missing');
    assertLeavesCookies(await write({ origin: APP, 'x-csrf-token': '' }), 'csrf_missing');
    for (const csrf of [other.csrf, signed.access, 'x', signed.csrf.slice(1), `${signed.csrf}, ${signed.csrf}`, 'x'.repeat(8_000)])
      assertLeavesCookies(await write({ origin: APP, 'x-csrf-token': csrf }), 'csrf_invalid', csrf.slice(0, 50));
    for (const type of ['text/plain', 'application/x-www-form-urlencoded', 'multipart/form-data; boundary=x'])
      assertLeavesCookies(await write({ ...page(signed.csrf), 'content-type': type }), 'media_type_unsupported', type);
    assert.deepEqual(await notes(), []);

    for (const headers of [page(signed.csrf), { origin: ownOrigin(own), 'x-csrf-token': signed.csrf }])
      assert.equal((await write(headers)).status, 201);
    assert.deepEqual(await notes(), ['milk', 'milk'], 'not one of the refused counted by the caller');
    const log = readFileSync(join(own.folder, 'security.log'), 'utf8');
    for (const code of ['origin_refused', 'csrf_missing', 'csrf_invalid'])
      assert.match(log, new RegExp(`"code":"${code}","status":403.*"sessionId":"ses_`));
    for (const secret of [signed.access, signed.refresh, signed.csrf]) assert.ok(!log.includes(secret));
  });

  test('beside a bearer is read by nobody', async () => {
    const signed = await logInByCookie(program);
    const { access, refresh } = await logIn(program);
    const headers = { cookie: `${cookieHeader(signed)}; ${cookieHeader(signed)}` };
    assert.equal((await ask('GET', '/protected', { bearer: access, headers })).status, 200);
    assertLeavesCookies(await ask('GET', '/protected', { bearer: 'x', headers }), 'token_invalid');
    assertLeavesCookies(await ask('GET', '/protected', { headers: { ...headers, authorization: '' } }), 'token_missing');
    const next = await ask('POST', '/refresh', { bearer: refresh, headers });
    assert.deepEqual([next.status, typeof next.json.refresh_token, next.headers['set-cookie']], [200, 'string', undefined]);
    const out = await ask('POST', '/logout', { bearer: next.json.access_token, headers });
    assert.deepEqual([out.status, out.headers['set-cookie']], [200, undefined]);
    await assertUntouched(signed);
  });

  test('twice, or with what is no access token, is refused as it would be as a bearer', async (t) => {
    const signed = await logInByCookie(program);
    const now = Math.floor(Date.now() / 1_000);
    const expired = await mint(signed.access, { iat: now - 1_000, nbf: now - 1_000, exp: now - 100 });
    for (const [cookie, code] of [
      [`${cookieHeader(signed)}; ${cookieHeader(signed)}`, 'cookie_duplicated'],
      [`${ACCESS}=x; ${cookieHeader(signed)}`, 'cookie_duplicated'],
      [cookieHeader({ refresh: signed.refresh }), 'token_missing'],
      [cookieHeader({ access: signed.refresh }), 'access_token_required'],
      [cookieHeader({ access: expired }), 'token_expired'],
      [cookieHeader({ access: `${signed.access}x` }), 'token_invalid'],
      [cookieHeader({ access: '' }), 'token_invalid'],
      [`__host-portcullis-access=${signed.access}`, 'token_missing'],
      [`portcullis-access=${signed.access}`, 'token_missing'],
    ] as const)
      assertLeavesCookies(await ask('GET', '/protected', { headers: { cookie } }), code, cookie);

    const http2 = await openHttp2(t, program);
    const fields = { ':path': '/protected', ':authority': `localhost:${program.port}` };
    assert.equal((await http2({ ...fields, cookie: ['x=1', cookieHeader(signed)] })).status, 200, 'HTTP/2 may split the header');
    assertLeavesCookies(await http2({ ...fields, cookie: [cookieHeader(signed), cookieHeader(signed)] }), 'cookie_duplicated');
    await assertUntouched(signed);
  });

  test('whose body comes after the session has ended is refused', async (t) => {
    const own = await startProgram(t, { entry, settings: wideLimits });
    const signed = await logInByCookie(own);
    const headers = { cookie: cookieHeader(signed), origin: ownOrigin(own), 'x-csrf-token': signed.csrf };
    const body = '{"text":"milk"}';
    const late = request({
      host: '127.0.0.1',
      servername: 'localhost',
      port: own.port,
      ca: own.ca,
      agent: false,
      method: 'POST',
      path: '/notes',
      headers: { host: 'localhost', 'content-type': 'application/json', 'content-length': body.length, ...headers },
    });
    late.flushHeaders();
    const answered = once(late, 'response') as Promise<[IncomingMessage]>; // what the event brings
    await wait(200);
    assert.equal((await own.ask('POST', '/logout', { headers })).status, 200);
    late.end(body);
    const [answer] = await answered;
    assert.equal(answer.statusCode, 401);
    assert.equal(JSON.parse(Buffer.concat(await answer.toArray()).toString()).code, 'token_revoked');
  });
});

describe('refresh by cookie', () => {
  test('gives the next pair in cookies, and the same to two at once', async () => {
    const signed = await logInByCookie(program);
    const answers = await Promise.all(Array.from({ length: 8 }, () => refreshBy(signed)));
    const all = answers.map(signedBy);
    assert.equal(new Set(all.map(({ refresh }) => refresh)).size, 1);
    assert.notEqual(all[0]?.refresh, signed.refresh);
    for (const { csrf } of all) assert.equal(csrf, signed.csrf, 'as long as the session');
    for (const answer of answers) {
      assert.deepEqual(Object.keys(answer.json), ['expires_in', 'csrf_token']);
      const [access, refresh] = cookiesOf(answer);
      assert.match(access?.attributes ?? '', /^Path=\/; Max-Age=900; Secure; HttpOnly; SameSite=Strict$/);
      const maxAge = Number(/Max-Age=(\d+)/.exec(refresh?.attributes ?? '')?.[1]);
      assert.ok(maxAge > 604_700 && maxAge <= 604_800, 'never beyond the end of the session');
    }
    const [next] = all;
    if (next) await assertUntouched(next);
  });

  test('is refused to strangers, without the CSRF token, and with what is no refresh token; the session lives on', async () => {
    let signed = await logInByCookie(program);
    const other = await logInByCookie(program);
    for (const [what, headers] of strangers)
      assertLeavesCookies(await refreshBy(signed, { 'x-csrf-token': signed.csrf, ...headers }), 'origin_refused', what);
    assertLeavesCookies(await refreshBy(signed, { origin: APP }), 'csrf_missing');
    assertLeavesCookies(await refreshBy(signed, page(other.csrf)), 'csrf_invalid');
    for (const [refresh, code] of [
      ['', 'token_invalid'],
      ['prt_x', 'token_invalid'],
      [`${signed.refresh.slice(0, -8)}AAAAAAAA`, 'token_invalid'],
      [signed.access, 'refresh_token_required'],
    ] as const)
      assertLeavesCookies(await refreshBy({ refresh, csrf: signed.csrf }), code, refresh.slice(0, 10));
    const cookies = (cookie: string) => ask('POST', '/refresh', { headers: { cookie, ...page(signed.csrf) } });
    assertLeavesCookies(await cookies(cookieHeader({ access: signed.access })), 'token_missing');
    assertLeavesCookies(await cookies(`${cookieHeader(signed)}; ${cookieHeader(other)}`), 'cookie_duplicated');
    const withBody = { cookie: cookieHeader(signed), ...page(signed.csrf), 'content-type': 'text/plain' };
    assertLeavesCookies(await ask('POST', '/refresh', { headers: withBody, body: '{}' }), 'media_type_unsupported');
    signed = await assertUntouched(signed);
    await assertUntouched(other);
  });

  test('one that loses clears nothing: neither a replay, nor one of a session that has ended', async () => {
    const first = await logInByCookie(program);
    const second = signedBy(await refreshBy(first));
    const third = signedBy(await refreshBy(second));
    assertLeavesCookies(await refreshBy(first), 'token_revoked', 'a replay');
    for (const signed of [first, second, third]) assertLeavesCookies(await refreshBy(signed), 'token_revoked');
    assertLeavesCookies(await refreshBy(third, {}), 'token_revoked', 'before gate 6');
    assert.equal(await whoIs(third), 'token_revoked');
  });
});

describe('logout by cookie', () => {
  const cleared = (answer: Answer): void => {
    assert.equal(`${answer.status} ${answer.text}`, '200 {"msg":"Successfully logged out"}');
    assert.deepEqual(
      cookiesOf(answer),
      [ACCESS, REFRESH].map((name) => ({ name, value: '', attributes: 'Path=/; Max-Age=0; Secure; HttpOnly; SameSite=Strict' })),
    );
  };

  test('by both cookies or by either of them ends the session and clears both', async () => {
    for (const pick of [
      ({ access, refresh }: Signed) => ({ access, refresh }),
      ({ access }: Signed) => ({ access }),
      ({ refresh }: Signed) => ({ refresh }),
      ({ refresh }: Signed) => ({ refresh, access: 'forged' }),
      ({ access }: Signed) => ({ access, refresh: 'forged' }),
    ]) {
      const signed = await logInByCookie(program);
      cleared(await logoutBy(pick(signed), page(signed.csrf)));
      assert.equal(await whoIs(signed), 'token_revoked');
      assertLeavesCookies(await refreshBy(signed), 'token_revoked');
      cleared(await logoutBy(pick(signed), page(signed.csrf)));
      cleared(await logoutBy(pick(signed), { origin: APP }));
    }
  });

  test('also when the access cookie has expired, or is of another session', async () => {
    const [signed, other] = [await logInByCookie(program), await logInByCookie(program)];
    const now = Math.floor(Date.now() / 1_000);
    const expired = await mint(signed.access, { iat: now - 1_000, nbf: now - 1_000, exp: now - 100 });
    assertLeavesCookies(await logoutBy({ access: expired }, page(signed.csrf)), 'token_expired', 'nothing says which session');
    cleared(await logoutBy({ access: expired, refresh: signed.refresh }, page(signed.csrf)));
    assert.equal(await whoIs(signed), 'token_revoked');
    const third = await logInByCookie(program);
    cleared(await logoutBy({ access: other.access, refresh: third.refresh }, page(third.csrf)));
    assert.equal(await whoIs(third), 'token_revoked');
    await assertUntouched(other);
  });

  test('is refused to strangers and without the CSRF token; the session lives on', async () => {
    const [signed, other] = [await logInByCookie(program), await logInByCookie(program)];
    for (const cookies of [signed, { access: signed.access }, { refresh: signed.refresh }]) {
      for (const [what, headers] of strangers)
        assertLeavesCookies(await logoutBy(cookies, { 'x-csrf-token': signed.csrf, ...headers }), 'origin_refused', what);
      assertLeavesCookies(await logoutBy(cookies, { origin: APP }), 'csrf_missing');
      assertLeavesCookies(await logoutBy(cookies, page(other.csrf)), 'csrf_invalid');
    }
    const twice = { cookie: `${cookieHeader(signed)}; ${cookieHeader(signed)}`, ...page(signed.csrf) };
    assertLeavesCookies(await ask('POST', '/logout', { headers: twice }), 'cookie_duplicated');
    for (const type of ['text/plain', 'application/x-www-form-urlencoded'])
      assertLeavesCookies(
        await ask('POST', '/logout', { headers: { cookie: cookieHeader(signed), ...page(signed.csrf), 'content-type': type }, body: '{}' }),
        'media_type_unsupported',
      );
    await assertUntouched(signed);
    await assertUntouched(other);
  });

  test('of cookies that are no tokens: what is there is cleared, to a page of ours', async () => {
    for (const cookies of [{ access: 'x' }, { refresh: 'x' }, { access: '', refresh: '' }]) {
      cleared(await logoutBy(cookies, { origin: APP }));
      assertLeavesCookies(await logoutBy(cookies, {}), 'origin_refused');
    }
    assertLeavesCookies(await ask('POST', '/logout', { headers: { cookie: 'other=1', origin: APP } }), 'token_missing');
  });

  test('a refresh token in the body ends its session too', async () => {
    const [signed, { access, refresh }] = [await logInByCookie(program), await logIn(program)];
    cleared(await logoutBy(signed, page(signed.csrf), { refresh_token: refresh }));
    assert.equal(await whoIs(signed), 'token_revoked');
    assertRefused(await ask('GET', '/protected', { bearer: access }), 'token_revoked');
  });
});

test('GET /csrf tells a page that was loaded anew what it needs, and nobody else', async () => {
  const signed = await logInByCookie(program);
  const get = (headers: Record<string, string>) => ask('GET', '/csrf', { headers });
  const answer = await get({ cookie: cookieHeader({ refresh: signed.refresh }), origin: APP });
  assert.equal(`${answer.status} ${answer.text}`, `200 {"csrf_token":"${signed.csrf}"}`);
  assert.deepEqual(
    [
      answer.headers['cache-control'],
      answer.headers['access-control-allow-credentials'],
      answer.headers['access-control-allow-origin'],
      answer.headers['set-cookie'],
    ],
    ['no-store', 'true', APP, undefined],
  );
  const evil = await get({ cookie: cookieHeader(signed), origin: 'https://evil.example.com' });
  assert.equal(evil.headers['access-control-allow-origin'], undefined, 'its browser keeps the answer from it');
  assert.equal(evil.headers['cross-origin-resource-policy'], 'same-origin');

  assertLeavesCookies(await get({}), 'token_missing');
  assertLeavesCookies(await get({ cookie: cookieHeader({ access: signed.access }) }), 'token_missing');
  for (const forged of ['x', `${signed.refresh}x`, `${signed.refresh.slice(0, -8)}AAAAAAAA`])
    assertLeavesCookies(await get({ cookie: cookieHeader({ refresh: forged }) }), 'token_invalid');
  assertLeavesCookies(await get({ cookie: `${cookieHeader(signed)}; ${cookieHeader(signed)}` }), 'cookie_duplicated');
  const bearer = await get({ authorization: `Bearer ${signed.refresh}` });
  assert.deepEqual(
    [bearer.status, bearer.json.code, bearer.json.detail],
    [401, 'token_missing', 'Only a session in cookies has a CSRF token.'],
  );
  await assertUntouched(signed);
  await logoutBy(signed, page(signed.csrf));
  assertLeavesCookies(await get({ cookie: cookieHeader(signed) }), 'token_revoked');
});

describe('as it is set', () => {
  test('SameSite=None lets an allowed origin in from another site, and a stranger not', async (t) => {
    const set = await startProgram(t, { settings: { ...wideLimits, CORS_ORIGINS: APP, COOKIE_SAMESITE: 'None' } });
    const headers = { origin: APP, 'sec-fetch-site': 'cross-site' };
    const answer = await askForCookies(set, { headers });
    for (const { attributes } of cookiesOf(answer)) assert.match(attributes, /; Secure; HttpOnly; SameSite=None$/);
    const { csrf, ...cookies } = signedBy(answer);
    const refresh = (more: Record<string, string>) =>
      set.ask('POST', '/refresh', { headers: { cookie: cookieHeader(cookies), ...headers, ...more } });
    assertLeavesCookies(await refresh({}), 'csrf_missing');
    assertLeavesCookies(await refresh({ 'x-csrf-token': csrf, origin: 'https://evil.example' }), 'origin_refused');
    assert.equal((await refresh({ 'x-csrf-token': csrf })).status, 200);
  });

  test('without cookies none is set, read, or allowed for', async (t) => {
    const set = await startProgram(t, { settings: { ...wideLimits, CORS_ORIGINS: APP, COOKIES: 'false' } });
    const answer = await askForCookies(set);
    assert.deepEqual([answer.status, answer.json.code, answer.headers['set-cookie']], [400, 'body_invalid', undefined]);
    assert.match(answer.json.detail, /"bearer"/);
    const { access, refresh } = await logIn(set);
    const cookie = cookieHeader({ access, refresh });
    assertLeavesCookies(await set.ask('GET', '/protected', { headers: { cookie } }), 'token_missing');
    for (const path of ['/refresh', '/logout'])
      assertLeavesCookies(await set.ask('POST', path, { headers: { cookie, origin: APP } }), 'token_missing', path);
    assertRefused(await set.ask('GET', '/csrf', { headers: { cookie } }), 'not_found');
    for (const method of ['GET', 'OPTIONS']) {
      const { headers } = await set.ask(method, '/protected', { headers: { origin: APP, 'access-control-request-method': 'GET' } });
      assert.deepEqual([headers['access-control-allow-origin'], headers['access-control-allow-credentials']], [APP, undefined]);
    }
    const { components, paths } = (await set.ask('GET', '/openapi.json')).json;
    assert.deepEqual([Object.keys(components.securitySchemes), paths['/csrf']], [['access', 'refresh'], undefined]);
  });
});
