import assert from 'node:assert/strict';
import { test } from 'node:test';
import { open } from '@portcullis/guard';
import { openApp } from './support/house.ts';
import { type Answer, demoUser, logIn, startProgram, wideLimits } from './support/program.ts';
import { assertRefused } from './support/refusal.ts';
import { head, openHttp2, speak } from './support/speak.ts';

const HSTS = 'max-age=31536000; includeSubDomains';
const always = {
  'cache-control': 'no-store',
  'content-security-policy': "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; sandbox",
  'cross-origin-resource-policy': 'same-origin',
  'referrer-policy': 'no-referrer',
  vary: 'Origin',
  'x-content-type-options': 'nosniff',
};
/** Beside them, and beside what says how the bytes travel, an answer has no header but these. */
const others = [
  'x-request-id',
  'strict-transport-security',
  'content-type',
  'content-length',
  'date',
  'connection',
  'keep-alive',
  'allow',
  'www-authenticate',
  'retry-after',
  'ratelimit',
  'ratelimit-policy',
  'access-control-allow-origin',
  'access-control-allow-credentials',
  'access-control-expose-headers',
  'access-control-allow-methods',
  'access-control-allow-headers',
  'access-control-max-age',
];

function assertDressed(
  answer: Answer & { fields?: readonly (readonly [string, string])[] },
  what: string,
  { overTls = true, ...but }: Partial<typeof always> & { overTls?: boolean } = {},
): void {
  const { headers, fields } = answer;
  for (const [name, value] of Object.entries({ ...always, ...but })) assert.equal(headers[name], value, `${what}: ${name}`);
  assert.equal(headers['strict-transport-security'], overTls ? HSTS : undefined, what);
  assert.match(String(headers['x-request-id']), /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/, what);
  for (const name of Object.keys(headers)) assert.ok(name in always || others.includes(name) || name === ':status', `${what}: ${name}`);
  if (fields) assert.equal(new Set(fields.map(([name]) => name)).size, fields.length, `${what}: no header twice`);
  if (answer.text)
    assert.match(
      String(headers['content-type']),
      answer.status < 300 ? /^application\/json; charset=utf-8$/ : /^application\/problem\+json; charset=utf-8$/,
      what,
    );
}

test('on every kind of answer', async (t) => {
  const program = await startProgram(t, { settings: { ...wideLimits, LOGOUT_LIMITS: '1 per minute' } });
  const { access } = await logIn(program);
  const origin = { origin: 'https://your-frontend.com', 'access-control-request-method': 'POST' };
  const say = (bytes: string) => speak(program, bytes);
  const json = (body: string, fields = {}) =>
    say(head('POST', '/login', { 'content-type': 'application/json', 'content-length': String(body.length), ...fields }) + body);

  const answers: [status: number, what: string, answer: Answer][] = [
    [200, 'login', await json(JSON.stringify(demoUser))],
    [200, 'protected', await say(head('GET', '/protected', { authorization: `Bearer ${access}` }))],
    [200, 'HEAD', await say(head('HEAD', '/protected', { authorization: `Bearer ${access}` }))],
    [200, 'health', await say(head('GET', '/healthz'))],
    [204, 'OPTIONS', await say(head('OPTIONS', '/login'))],
    [400, 'a body', await json('{')],
    [400, 'a path', await say(head('GET', '/%'))],
    [400, 'a host', await say(head('GET', '/healthz', {}, 'a b'))],
    [400, 'what is no HTTP', await say('GET / HTTP/1.1\r\nbad\r\n\r\n')],
    [401, 'no token', await say(head('GET', '/protected'))],
    [401, 'a bad token', await say(head('GET', '/protected', { authorization: 'Bearer x' }))],
    [401, 'a wrong password', await json('{"username":"x","password":"x"}')],
    [401, 'logout without anything', await say(head('POST', '/logout'))],
    [429, 'a limit', await say(head('POST', '/logout'))],
    [404, 'nowhere', await say(head('GET', '/nope'))],
    [405, 'a method', await say(head('GET', '/login'))],
    [405, 'CONNECT', await say('CONNECT x:1 HTTP/1.1\r\nHost: x\r\n\r\n')],
    [413, 'a large body', await json('x'.repeat(20_000))],
    [415, 'a type', await json('{}', { 'content-type': 'text/plain' })],
    [415, 'an encoding', await json('{}', { 'content-encoding': 'br' })],
    [417, 'an expectation', await json('{}', { expect: 'wonders' })],
    [431, 'large headers', await say(head('GET', '/healthz', { x: 'x'.repeat(20_000) }))],
  ];
  for (const [status, what, answer] of answers) {
    assert.equal(answer.status, status, `${what} ${answer.text}`);
    assertDressed(answer, what);
  }
  assertDressed(await say(head('OPTIONS', '/login', origin)), 'preflight', {
    vary: 'Origin, Access-Control-Request-Method, Access-Control-Request-Headers',
  });
  assertDressed(await say(head('GET', '/.well-known/jwks.json')), 'public keys', { 'cache-control': 'public, max-age=300' });
  assertDressed(await say(head('GET', '/protected', { origin: origin.origin })), 'to a browser');

  const ask = await openHttp2(t, program);
  assertDressed(await ask({ ':path': '/protected', authorization: `Bearer ${access}` }), 'HTTP/2 200');
  assertDressed(await ask({ ':path': '/protected' }), 'HTTP/2 401');
  assertDressed(await ask({ ':path': '/%' }), 'HTTP/2 400');
  assertDressed(await ask({ ':path': '/login', ':method': 'POST', 'content-type': 'application/json' }, 'x'.repeat(20_000)), 'HTTP/2 413');

  const plain = await speak(program, 'GET /protected HTTP/1.1\r\nHost: localhost\r\n\r\n', { plain: true });
  assertRefused(plain, 'https_required');
  assertDressed(plain, 'plain HTTP', { overTls: false });

  const ids = answers.map(([, , { headers }]) => headers['x-request-id']);
  assert.equal(new Set(ids).size, ids.length, 'each has an id of its own');
});

test('on 503, which comes with a Retry-After', async (t) => {
  const program = await startProgram(t, { settings: { ...wideLimits, SHUTDOWN_DELAY: '10 minutes' } });
  const { access } = await logIn(program);
  const ask = (path: string) => program.ask('GET', path, { bearer: access, from: '127.0.0.1' }); // each on a connection of its own
  process.kill(program.pid, 'SIGTERM');
  let ready = await ask('/readyz');
  while (ready.status === 200) ready = await ask('/readyz');
  assertRefused(ready, 'unavailable');
  assertDressed(ready, 'not ready');
  assert.doesNotMatch(ready.text, /drain/, "why is nobody's business");
  const last = await ask('/protected');
  assert.equal(last.status, 200, 'what still comes is served');
  assert.equal(last.headers.connection, 'close');
});

test('on a fault of ours, of which nothing is told', async (t) => {
  const { app } = await openApp(t, wideLimits, {
    routes: (add) => {
      add.get('/fault', { config: { access: open() } }, () => {
        throw Object.assign(new TypeError('secret sauce'), { statusCode: 418, headers: { 'x-leak': '1' } });
      });
      add.get('/odd-fault', { config: { access: open() } }, () => {
        throw null;
      });
    },
  });
  for (const url of ['/fault', '/odd-fault']) {
    const { statusCode, headers, body } = await app.inject({ url, headers: { host: 'localhost' } });
    const answer = { status: statusCode, headers: headers as Answer['headers'], text: body, json: JSON.parse(body) }; // no header of ours is a number
    assertRefused(answer, 'internal');
    assertDressed(answer, url, { overTls: false });
    assert.doesNotMatch(body, /secret|TypeError|\.ts/);
  }
});
