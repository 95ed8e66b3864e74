import assert from 'node:assert/strict';
import { describe, test, type TestContext } from 'node:test';
import Fastify from 'fastify';
import fc from 'fast-check';
import { type CookieOptions, csrf } from '../src/csrf.ts';
import {
  type Caller,
  guard,
  type GuardOptions,
  manualClock,
  memoryCounters,
  open,
  Problem,
  type Refusal,
  refreshToken,
  sessionIfNamed,
  signedIn,
  signedInIfSent,
} from '../src/index.ts';

const OWN = 'https://api.example.com';
const APP = 'https://app.example.com';
const ACCESS = '__Host-portcullis-access';
const REFRESH = '__Host-portcullis-refresh';

/** Of a session `ses_x` the access token is `a.b.x`, the refresh token `prt_x`, the CSRF token `csrf of ses_x`. */
const cookies: CookieOptions = {
  sameSite: 'Strict',
  ownOrigin: OWN,
  csrf: { matches: (sessionId, sent) => sent === `csrf of ${sessionId}` },
  sessionOf: (token) => (/^prt_\w$/.test(token) ? `ses_${token.slice(4)}` : undefined),
};

const codeOf = (work: () => unknown): string => {
  try {
    work();
    return 'passed';
  } catch (error) {
    return error instanceof Problem ? error.code : String(error);
  }
};

describe('where a request comes from', () => {
  const from = (headers: Record<string, string>, options: Partial<CookieOptions> = {}): string =>
    codeOf(() => csrf({ ...cookies, ...options }, [APP]).assertOwnOrigin({ method: 'POST', headers }));

  test('our own origin and the allowed ones, to the letter', () => {
    for (const origin of [OWN, APP]) assert.equal(from({ origin }), 'passed', origin);
    assert.equal(from({}), 'origin_refused');
    const evil = ['null', '', '*', 'https://evil.example.com', 'https://example.com', 'api.example.com', 'file://', '__proto__'];
    const almost = [`${OWN}/`, `${OWN}:443`, `${OWN}.`, `${OWN}.evil.example`, OWN.toUpperCase(), OWN.replace('https', 'http')];
    for (const origin of [...evil, ...almost, `${OWN}, ${OWN}`, `${APP}, null`]) assert.equal(from({ origin }), 'origin_refused', origin);
    fc.assert(fc.property(fc.webUrl(), (origin) => from({ origin }) === 'origin_refused'));
  });

  test('Sec-Fetch-Site may tell against a request and never for it', () => {
    for (const site of ['same-origin', 'same-site', 'none']) {
      assert.equal(from({ origin: APP, 'sec-fetch-site': site }), 'passed', site);
      assert.equal(from({ 'sec-fetch-site': site }), 'origin_refused', 'no Origin');
      assert.equal(from({ origin: 'null', 'sec-fetch-site': site }), 'origin_refused', 'null');
    }
    for (const site of ['cross-site', '', 'same-origin, cross-site', 'Same-Origin', 'whatever'])
      assert.equal(from({ origin: APP, 'sec-fetch-site': site }), 'origin_refused', site);
  });

  test('with SameSite=None an allowed origin may stand on another site; a stranger still not', () => {
    const crossSite = { 'sec-fetch-site': 'cross-site' };
    assert.equal(from({ origin: APP, ...crossSite }, { sameSite: 'None' }), 'passed');
    assert.equal(from({ origin: APP, ...crossSite }, { sameSite: 'Lax' }), 'origin_refused');
    assert.equal(from({ origin: 'https://evil.example', ...crossSite }, { sameSite: 'None' }), 'origin_refused');
  });

  test('an origin that is not exact stops the start', () => {
    for (const ownOrigin of ['null', '*', `${OWN}/v1`, 'api.example.com', ''])
      assert.throws(() => csrf({ ...cookies, ownOrigin }, []), /not an exact origin/, ownOrigin);
  });
});

test('of an origin that is refused the log has what a browser may have sent, and nothing else', () => {
  const loggedOf = (origin: string): unknown => {
    try {
      csrf(cookies, []).assertOwnOrigin({ method: 'POST', headers: { origin } });
    } catch (error) {
      return error instanceof Problem ? error.extra.logged?.origin : error;
    }
  };
  for (const origin of ['null', 'https://evil.example:8443', 'http://localhost:3000', 'chrome-extension://abcdef', 'file://'])
    assert.equal(loggedOf(origin), origin);
  for (const origin of [
    '',
    'https://prt_AaIIhQMV.example',
    `https://${'a'.repeat(200)}.example`,
    'https://evil\u001b[31m',
    'https://a, https://b',
  ])
    assert.equal(loggedOf(origin), 'of no form that a browser sends', origin);
});

test('every method but the safe ones needs the token of its own session', () => {
  const { assertOwnPage } = csrf(cookies, [APP]);
  const ask = (method: string, headers: Record<string, string>): string => codeOf(() => assertOwnPage({ method, headers }, 'ses_1'));
  for (const method of ['GET', 'HEAD', 'OPTIONS']) assert.equal(ask(method, {}), 'passed');
  for (const method of ['POST', 'PUT', 'PATCH', 'DELETE', 'TRACE', 'PROPFIND', 'get', '']) {
    assert.equal(ask(method, { 'x-csrf-token': 'csrf of ses_1' }), 'origin_refused', method);
    assert.equal(ask(method, { origin: APP }), 'csrf_missing', method);
    assert.equal(ask(method, { origin: APP, 'x-csrf-token': '' }), 'csrf_missing', method);
    for (const wrong of ['csrf of ses_2', 'csrf of ses_1, csrf of ses_1', 'x', 'x'.repeat(10_000)])
      assert.equal(ask(method, { origin: APP, 'x-csrf-token': wrong }), 'csrf_invalid', method);
    assert.equal(ask(method, { origin: APP, 'x-csrf-token': 'csrf of ses_1' }), 'passed', method);
  }
});

const callerOf = (token: string): Caller => {
  const [, id] = /^a\.b\.(\w)$/.exec(token) ?? [];
  if (id === undefined) throw new Problem('token_invalid', 'form');
  if (id === 'e') throw new Problem('token_expired');
  return {
    userId: `usr_${id}`,
    username: id,
    sessionId: `ses_${id}`,
    tokenId: `tok_${id}`,
    clientId: 'web',
    scopes: [],
    authenticatedAt: 0,
    expiresAt: Infinity,
  };
};

async function guarded(t: TestContext, options: Partial<GuardOptions> = {}) {
  const clock = manualClock();
  const refusals: Refusal[] = [];
  const revoked = new Set<string>();
  const ran: string[] = [];
  const app = Fastify();
  t.after(() => app.close());
  await app.register(guard, {
    tokens: { read: callerOf },
    revocations: { isRevoked: (id) => revoked.has(id) },
    counters: memoryCounters({ clock, secret: Buffer.alloc(32) }),
    clock,
    corsOrigins: [APP],
    cookies,
    onRefused: (refusal) => refusals.push(refusal),
    ...options,
  });
  const accesses = {
    open: open(),
    in: signedIn(),
    scoped: signedIn({ scopes: ['x'] }),
    sent: signedInIfSent(),
    refresh: refreshToken(),
    out: sessionIfNamed(),
  };
  for (const [name, access] of Object.entries(accesses))
    app.route({
      method: ['GET', 'POST', 'DELETE'],
      url: `/${name}`,
      config: { access },
      handler: (request, reply) => {
        ran.push(name);
        reply.send(`${request.transport} ${request.sessionIdIfSent}`);
      },
    });
  app.post('/few', { config: { access: signedIn(), limits: ['1 per minute by caller', '6 per minute by ip'] } }, () => 'done');
  app.post('/own-origin', { config: { access: open() } }, (request) => {
    request.assertOwnOrigin();
    return 'ours';
  });
  await app.ready();

  /** What the handler says, or the code of the refusal. */
  const ask = async (
    method: 'GET' | 'POST' | 'DELETE',
    url: string,
    headers: Record<string, string | string[] | undefined> = {},
  ): Promise<string> => {
    const answer = await app.inject({ method, url, headers });
    return answer.statusCode === 200 ? answer.body : answer.json().code;
  };
  return { app, ask, revoked, refusals, ran };
}

const access = (id: string): string => `${ACCESS}=a.b.${id}`;
const refresh = (id: string): string => `${REFRESH}=prt_${id}`;
const page = (id: string) => ({ origin: APP, 'sec-fetch-site': 'same-site', 'x-csrf-token': `csrf of ses_${id}` });

describe('a token in a cookie', () => {
  test('counts where Authorization says nothing, and its session with it', async (t) => {
    const { ask, ran } = await guarded(t);
    assert.equal(await ask('GET', '/in', { cookie: access('1') }), 'cookie ses_1');
    assert.equal(await ask('POST', '/in', { cookie: access('1'), ...page('1') }), 'cookie ses_1');
    assert.equal(await ask('GET', '/sent', { cookie: access('1') }), 'cookie ses_1');
    assert.equal(await ask('GET', '/sent'), 'undefined undefined');
    assert.equal(await ask('GET', '/open', { cookie: access('1') }), 'undefined undefined');
    assert.equal(await ask('POST', '/refresh', { cookie: refresh('1'), ...page('1') }), 'cookie ses_1');
    assert.equal(ran.length, 6);
  });

  test('beside a bearer it is not read, whatever it is and whatever the bearer is', async (t) => {
    const { ask } = await guarded(t);
    const twice = `${access('1')}; ${access('2')}; ${refresh('1')}; ${refresh('2')}`;
    for (const cookie of [access('2'), `${ACCESS}=x`, twice]) {
      for (const url of ['/in', '/sent', '/out'])
        assert.equal(await ask('POST', url, { cookie, authorization: 'Bearer a.b.1' }), 'bearer ses_1', `${url} ${cookie}`);
      assert.equal(await ask('POST', '/in', { cookie, authorization: 'Bearer x', ...page('2') }), 'token_invalid');
      assert.equal(await ask('POST', '/in', { cookie, authorization: 'Basic eA==', ...page('2') }), 'authorization_scheme');
      assert.equal(await ask('POST', '/in', { cookie, authorization: '', ...page('2') }), 'token_missing');
      assert.equal(await ask('POST', '/refresh', { cookie, authorization: 'Bearer prt_1' }), 'bearer undefined');
      assert.equal(await ask('POST', '/refresh', { cookie, authorization: '', ...page('2') }), 'token_missing');
      for (const url of ['/sent', '/out']) assert.equal(await ask('POST', url, { cookie, authorization: '' }), 'undefined undefined');
    }
  });

  test('is refused by the codes of a bearer; the first that applies answers', async (t) => {
    const { ask, ran, revoked } = await guarded(t);
    revoked.add('ses_r');
    for (const [url, cookie, code] of [
      ['/in', refresh('1'), 'token_missing'],
      ['/in', `${ACCESS}=`, 'token_invalid'],
      ['/in', `${ACCESS}=x`, 'token_invalid'],
      ['/in', `${ACCESS}="a.b.1"`, 'token_invalid'],
      ['/in', `${ACCESS}=prt_1`, 'access_token_required'],
      ['/in', access('e'), 'token_expired'],
      ['/in', access('r'), 'token_revoked'],
      ['/sent', access('r'), 'token_revoked'],
      ['/scoped', access('1'), 'origin_refused'],
      ['/refresh', access('1'), 'token_missing'],
      ['/refresh', `${REFRESH}=a.b.1`, 'refresh_token_required'],
      ['/refresh', `${REFRESH}=x`, 'token_invalid'],
      ['/refresh', `${REFRESH}=prt_forged`, 'token_invalid'],
      ['/refresh', refresh('r'), 'token_revoked'],
      ['/refresh', refresh('1'), 'origin_refused'],
    ] as const)
      assert.equal(await ask('POST', url, { cookie }), code, `${url} ${cookie}`);
    assert.equal(await ask('POST', '/scoped', { cookie: access('1'), origin: APP }), 'csrf_missing');
    assert.equal(await ask('POST', '/scoped', { cookie: access('1'), ...page('2') }), 'csrf_invalid');
    assert.equal(await ask('POST', '/scoped', { cookie: access('1'), ...page('1') }), 'scope_missing');
    assert.equal(await ask('GET', '/scoped', { cookie: access('1') }), 'scope_missing');
    assert.deepEqual(ran, []);
  });

  test('twice is refused, also in two Cookie headers, and counts', async (t) => {
    const { app, ask, ran } = await guarded(t, { defaultLimits: '9 per minute by ip' });
    for (const [url, one] of [
      ['/in', access('1')],
      ['/sent', access('1')],
      ['/refresh', refresh('1')],
      ['/out', refresh('1')],
    ] as const) {
      assert.equal(await ask('GET', url, { cookie: `${one}; ${one}` }), 'cookie_duplicated', url);
      assert.equal(await ask('GET', url, { cookie: [one, one] }), 'cookie_duplicated', url);
      const { headers } = await app.inject({ url, headers: { cookie: `${one}; ${one}` } });
      assert.match(String(headers.ratelimit), /;r=6;/, url);
    }
    assert.equal(
      await ask('GET', '/in', { cookie: `${access('1')}; ${refresh('1')}; ${refresh('1')}` }),
      'cookie ses_1',
      'what is not looked at',
    );
    assert.deepEqual(ran, ['in']);
  });

  test('without the option it is not looked at, and no answer allows credentials', async (t) => {
    const { app, ask } = await guarded(t, { cookies: undefined });
    assert.equal(await ask('GET', '/in', { cookie: access('1') }), 'token_missing');
    assert.equal(await ask('POST', '/refresh', { cookie: `${refresh('1')}; ${refresh('1')}` }), 'token_missing');
    for (const url of ['/sent', '/out']) assert.equal(await ask('POST', url, { cookie: access('1') }), 'undefined undefined');
    assert.equal(await ask('POST', '/own-origin', { origin: OWN }), 'internal');
    assert.equal((await app.inject({ url: '/open', headers: { origin: APP } })).headers['access-control-allow-credentials'], undefined);
  });

  test('refused by gate 6: before the body is read, logged with its session, paid by the address and not by the caller', async (t) => {
    const { app, ask, refusals } = await guarded(t);
    const send = { cookie: access('1'), 'content-type': 'application/json', 'content-length': '9' };
    const answer = await app.inject({ method: 'POST', url: '/in', headers: send, payload: '{not json' });
    assert.equal(`${answer.statusCode} ${answer.json().code}`, '403 origin_refused');

    for (const headers of [{}, { origin: 'https://evil.example' }, { ...page('1'), 'sec-fetch-site': 'cross-site' }, page('2')])
      await ask('POST', '/few', { cookie: access('1'), ...headers });
    assert.deepEqual(
      refusals.slice(1).map(({ code, reason, sessionId, logged }) => [code, reason, sessionId, logged.origin]),
      [
        ['origin_refused', 'no origin', 'ses_1', undefined],
        ['origin_refused', 'origin', 'ses_1', 'https://evil.example'],
        ['origin_refused', 'fetch site', 'ses_1', APP],
        ['csrf_invalid', undefined, 'ses_1', undefined],
      ],
    );
    assert.equal(await ask('POST', '/few', { cookie: access('1'), ...page('1') }), 'done', 'the one request of the caller is left');
    assert.equal(await ask('POST', '/few', { cookie: access('1'), ...page('1') }), 'rate_limited');
  });

  test('is asked for again once the body has come', async (t) => {
    const { ask, ran } = await guarded(t, { revocations: flipping() });
    assert.equal(await ask('POST', '/in', { cookie: access('1'), ...page('1') }), 'token_revoked');
    assert.deepEqual(ran, []);
  });
});

/** A session that ends between the first look and the second. */
function flipping(): GuardOptions['revocations'] {
  let looks = 0;
  return { isRevoked: () => (looks += 1) > 1 };
}

describe('to log out', () => {
  test('the refresh cookie names the session, else the access cookie', async (t) => {
    const { ask } = await guarded(t);
    for (const [cookie, id] of [
      [refresh('1'), '1'],
      [access('1'), '1'],
      [`${refresh('1')}; ${access('2')}`, '1'],
      [`${refresh('1')}; ${access('e')}`, '1'],
      [`${REFRESH}=forged; ${access('2')}`, '2'],
    ] as const) {
      assert.equal(await ask('POST', '/out', { cookie, ...page(id) }), `cookie ses_${id}`, cookie);
      assert.equal(await ask('POST', '/out', { cookie, origin: APP }), 'csrf_missing', cookie);
      assert.equal(await ask('POST', '/out', { cookie, ...page('9') }), 'csrf_invalid', cookie);
      assert.equal(await ask('POST', '/out', { cookie, ...page(id), origin: 'null' }), 'origin_refused', cookie);
    }
  });

  test('what names no living session needs no token, but a page of ours', async (t) => {
    const { ask, revoked } = await guarded(t);
    revoked.add('ses_r');
    for (const cookie of [refresh('r'), access('r'), `${access('r')}; ${refresh('r')}`, `${REFRESH}=forged`, `${ACCESS}=forged`]) {
      assert.equal(await ask('POST', '/out', { cookie, origin: APP }), 'cookie undefined', cookie);
      for (const headers of [{}, { origin: 'null' }, { ...page('r'), 'sec-fetch-site': 'cross-site' }])
        assert.equal(await ask('POST', '/out', { cookie, ...headers }), 'origin_refused', cookie);
    }
    assert.equal(
      await ask('POST', '/out', { cookie: access('e'), ...page('e') }),
      'token_expired',
      'its session may live, and nobody said which',
    );
    assert.equal(await ask('POST', '/out', {}), 'undefined undefined');
  });
});

test('assertOwnOrigin is for handlers that are about to set a cookie', async (t) => {
  const { ask } = await guarded(t);
  for (const origin of [OWN, APP]) assert.equal(await ask('POST', '/own-origin', { origin }), 'ours');
  assert.equal(await ask('POST', '/own-origin'), 'origin_refused');
  assert.equal(await ask('POST', '/own-origin', { origin: 'null' }), 'origin_refused');
  assert.equal(await ask('POST', '/own-origin', { origin: OWN, host: 'evil.example' }), 'ours', 'Host has no say');
});

test('credentials are allowed to allowed origins alone, on preflights too', async (t) => {
  const { app } = await guarded(t);
  const allowed = async (method: 'GET' | 'OPTIONS', origin: string) =>
    (await app.inject({ method, url: '/open', headers: { origin, 'access-control-request-method': 'POST' } })).headers[
      'access-control-allow-credentials'
    ];
  for (const method of ['GET', 'OPTIONS'] as const) {
    assert.equal(await allowed(method, APP), 'true');
    for (const origin of ['https://evil.example.com', 'null', OWN]) assert.equal(await allowed(method, origin), undefined);
  }
});
