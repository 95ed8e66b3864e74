import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { type Answer, demoUser, folderFor, logIn, runCommand, sharedProgram, startProgram, wideLimits } from './support/program.ts';
import { assertRefused } from './support/refusal.ts';

const ORIGIN = 'https://your-frontend.com';
const EXPOSED = 'Retry-After, RateLimit, RateLimit-Policy, X-Request-Id, WWW-Authenticate';

const program = sharedProgram({ ...wideLimits, LOGOUT_LIMITS: '2 per minute' });

const corsOf = ({ headers }: Answer): Record<string, unknown> =>
  Object.fromEntries(Object.entries(headers).filter(([name]) => name.startsWith('access-control-')));
const preflight = (path: string, origin: string, more: Record<string, string> = {}) =>
  program.ask('OPTIONS', path, {
    headers: { origin, 'access-control-request-method': 'POST', 'access-control-request-headers': 'authorization, x-evil', ...more },
  });

test('the allowed origin may read each answer, refusals too', async () => {
  const { access } = await logIn(program);
  const headers = { origin: ORIGIN };
  const answers: [number, Answer][] = [
    [200, await program.ask('GET', '/protected', { headers, bearer: access })],
    [200, await program.ask('POST', '/login', { headers, json: demoUser })],
    [400, await program.ask('POST', '/login', { headers, json: null })],
    [401, await program.ask('GET', '/protected', { headers })],
    [401, await program.ask('POST', '/logout', { headers })],
    [404, await program.ask('GET', '/nope', { headers })],
    [400, await program.ask('GET', '/%', { headers })],
    [405, await program.ask('GET', '/login', { headers })],
    [415, await program.ask('GET', '/healthz', { headers: { ...headers, 'content-encoding': 'gzip' } })],
    [401, await program.ask('POST', '/logout', { headers })],
    [429, await program.ask('POST', '/logout', { headers })],
  ];
  for (const [status, answer] of answers) {
    assert.equal(answer.status, status, answer.text);
    assert.deepEqual(
      corsOf(answer),
      { 'access-control-allow-origin': ORIGIN, 'access-control-allow-credentials': 'true', 'access-control-expose-headers': EXPOSED },
      `${status}`,
    );
    assert.equal(answer.headers.vary, 'Origin');
  }
});

test('a preflight is answered before any token, with fixed lists', async () => {
  for (const [path, methods] of [
    ['/login', 'POST'],
    ['/refresh', 'POST'],
    ['/logout', 'POST'],
    ['/protected', 'GET, HEAD'],
    ['/healthz', 'GET, HEAD'],
  ] as const) {
    const answer = await preflight(path, ORIGIN);
    assert.equal(`${answer.status} ${answer.text}`, '204 ');
    assert.deepEqual(corsOf(answer), {
      'access-control-allow-origin': ORIGIN,
      'access-control-allow-credentials': 'true',
      'access-control-expose-headers': EXPOSED,
      'access-control-allow-methods': methods,
      'access-control-allow-headers': 'authorization, content-type, x-csrf-token, x-request-id',
      'access-control-max-age': '600',
    });
    assert.equal(answer.headers.vary, 'Origin, Access-Control-Request-Method, Access-Control-Request-Headers');
    assert.equal(answer.headers['strict-transport-security'] !== undefined, true);
  }
  assertRefused(await preflight('/nope', ORIGIN), 'not_found');
});

const evil = [
  'null',
  '*',
  '',
  'https://your-frontend.com.evil.com',
  'https://evil-your-frontend.com',
  'https://evil.com/your-frontend.com',
  'https://evil.com?https://your-frontend.com',
  'https://your-frontend.com:444',
  'https://your-frontend.com:443',
  'http://your-frontend.com',
  'https://YOUR-FRONTEND.com',
  'HTTPS://your-frontend.com',
  'https://your-frontend.com.',
  'https://your-frontend.com/',
  'https://sub.your-frontend.com',
  'https://your-frontend_com',
  'https://yourXfrontend.com',
  'https://your-frontendxcom',
  'https://user@your-frontend.com',
  'https://your-frontend.com https://evil.com',
  'https://evil.com https://your-frontend.com',
  'https://evil.com, https://your-frontend.com',
  'your-frontend.com',
  '//your-frontend.com',
  'https://localhost',
  'http://localhost',
  'http://127.0.0.1',
  'file://',
  'chrome-extension://x',
  '.*',
  'https://.*',
  'undefined',
  '__proto__',
];

test(`${evil.length} other origins get not one CORS header, and the same answer otherwise`, async () => {
  const { access } = await logIn(program);
  for (const origin of evil) {
    for (const answer of [
      await program.ask('GET', '/protected', { headers: { origin }, bearer: access }),
      await program.ask('GET', '/nope', { headers: { origin } }),
      await preflight('/login', origin),
      await preflight('/login', origin, { 'access-control-request-private-network': 'true' }),
    ]) {
      assert.deepEqual(corsOf(answer), {}, origin);
      assert.match(String(answer.headers.vary), /^Origin(,|$)/);
    }
  }
  const { status, text } = await program.ask('GET', '/protected', { headers: { origin: 'https://evil.com' }, bearer: access });
  assert.equal(`${status} ${text}`, '200 {"logged_in_as":"testuser"}', 'CORS keeps browsers from reading; it is no gate for others');
});

test('without an Origin there is no CORS header either', async () => assert.deepEqual(corsOf(await program.ask('GET', '/healthz')), {}));

describe('origins as they are set', () => {
  test('several, each answered as itself', async (t) => {
    const origins = ['https://a.example', 'https://b.example:8443', 'http://localhost:3000'];
    const set = await startProgram(t, { settings: { CORS_ORIGINS: origins.join(', '), CORS_MAX_AGE: '1 hour' } });
    for (const origin of origins)
      assert.equal((await set.ask('GET', '/healthz', { headers: { origin } })).headers['access-control-allow-origin'], origin);
    assert.deepEqual(corsOf(await set.ask('GET', '/healthz', { headers: { origin: ORIGIN } })), {});
    const answer = await set.ask('OPTIONS', '/login', {
      headers: { origin: 'https://a.example', 'access-control-request-method': 'POST' },
    });
    assert.equal(answer.headers['access-control-max-age'], '3600');
  });

  test('none', async (t) => {
    const set = await startProgram(t, { settings: { CORS_ORIGINS: '' } });
    assert.deepEqual(corsOf(await set.ask('GET', '/healthz', { headers: { origin: ORIGIN } })), {});
  });

  const wrong = ['*', 'https://.*', '^https://a.example$', 'null', 'https://a.example/x', 'https://a.example,*'];
  test(`what is not exact is refused at the start: ${wrong.join(' ')}`, async (t) => {
    const folder = folderFor(t);
    await Promise.all(
      wrong.map(async (origins) => {
        const { code, stdout, stderr } = await runCommand(['dev'], {
          env: { PORTCULLIS_DATA_DIR: folder, PORTCULLIS_PORT: '0', PORTCULLIS_CORS_ORIGINS: origins },
        });
        assert.equal(code, 2, origins);
        assert.match(stderr, /PORTCULLIS_CORS_ORIGINS/);
        assert.doesNotMatch(stdout + stderr, /listening|\n\s+at /i);
      }),
    );
  });
});
