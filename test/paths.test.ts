import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { logIn, sharedProgram, wideLimits } from './support/program.ts';
import { assertRefused } from './support/refusal.ts';
import { head, openHttp2, type RawAnswer, speak } from './support/speak.ts';

let access: string;
const program = sharedProgram(wideLimits, async (started) => {
  ({ access } = await logIn(started));
});

const say = (bytes: string): Promise<RawAnswer> => speak(program, bytes);
const assertStillIn = async (): Promise<void> =>
  assert.equal((await program.ask('GET', '/protected', { bearer: access })).text, '{"logged_in_as":"testuser"}');

const routes: Readonly<Record<string, string>> = {
  '/login': 'POST, OPTIONS',
  '/refresh': 'POST, OPTIONS',
  '/logout': 'POST, OPTIONS',
  '/protected': 'GET, HEAD, OPTIONS',
  '/.well-known/jwks.json': 'GET, HEAD, OPTIONS',
  '/healthz': 'GET, HEAD, OPTIONS',
  '/readyz': 'GET, HEAD, OPTIONS',
  '/openapi.json': 'GET, HEAD, OPTIONS',
};
/** Those that Node's HTTP/1.1 knows, but CONNECT, which asks for no path. */
const methods = ['GET', 'HEAD', 'POST', 'PUT', 'PATCH', 'DELETE', 'TRACE', 'QUERY', 'PROPFIND', 'PURGE'];

describe('methods', () => {
  for (const [path, allow] of Object.entries(routes)) {
    test(`${path} takes ${allow} and answers others 405, whatever their body`, async () => {
      for (const method of methods.filter((name) => !allow.includes(name))) {
        for (const body of ['', '{', 'x'.repeat(20_000)]) {
          const answer = await say(
            head(method, path, body === '' ? {} : { 'content-type': 'application/json', 'content-length': String(body.length) }) + body,
          );
          assert.equal(answer.headers.allow, allow, method);
          if (method === 'HEAD') assert.equal(`${answer.status} ${answer.text}`, '405 ');
          else assertRefused(answer, 'method_not_allowed', method);
        }
      }
      const options = await say(head('OPTIONS', path));
      assert.equal(`${options.status} ${options.headers.allow} ${options.text}`, `204 ${allow} `);
    });
  }

  test('on an unknown path: 404 for each', async () => {
    for (const method of [...methods, 'OPTIONS']) {
      const answer = await say(head(method, '/nope', { 'content-type': 'text/plain', 'content-length': '1' }) + '{');
      if (method === 'HEAD') assert.equal(`${answer.status} ${answer.text}`, '404 ');
      else assertRefused(answer, 'not_found', method);
      assert.equal(answer.headers.allow, undefined);
    }
  });

  test('that nobody has heard of: 400 where the parser refuses them, 405 or 404 over HTTP/2', async (t) => {
    for (const method of ['FOO', 'get', 'GET\t', '']) assertRefused(await say(head(method, '/protected')), 'request_malformed', method);
    const ask = await openHttp2(t, program);
    for (const method of ['FOO', 'get', 'QUERY', '__proto__', 'constructor']) {
      const known = await ask({ ':method': method, ':path': '/protected', authorization: `Bearer ${access}` });
      assertRefused(known, 'method_not_allowed', method);
      assert.equal(known.headers.allow, 'GET, HEAD, OPTIONS');
      assertRefused(await ask({ ':method': method, ':path': '/nope' }), 'not_found', method);
    }
  });

  test('CONNECT: 405, and nothing is allowed in its place', async () => {
    const answer = await say('CONNECT example.com:443 HTTP/1.1\r\nHost: example.com\r\n\r\n');
    assertRefused(answer, 'method_not_allowed');
    assert.equal(answer.headers.allow, '');
  });

  test('OPTIONS * is of the server as a whole', async () => {
    const { status, headers, text } = await say(head('OPTIONS', '*'));
    assert.equal(`${status} ${headers.allow} ${text}`, '204 GET, HEAD, POST, OPTIONS ');
    assertRefused(await say(head('GET', '*')), 'not_found');
  });
});

describe('targets', () => {
  const bearer = () => ({ authorization: `Bearer ${access}` });

  test('the same path in another spelling of the same octets, and queries, are fine', async () => {
    for (const target of [
      '/protected',
      '/protected?',
      '/protected?a=b&%',
      `/protected?${'a'.repeat(8_000)}`,
      '/%70rotected',
      'https://localhost/protected',
      'HTTPS://LOCALHOST/protected',
    ]) {
      assert.equal((await say(head('GET', target, bearer()))).text, '{"logged_in_as":"testuser"}', target);
    }
  });

  test('another path is unknown, however near', async () => {
    for (const target of [
      '/',
      '/protected/',
      '//protected',
      '/./protected',
      '/../protected',
      '/x/../protected',
      '/%2e/protected',
      '/%2e%2e/protected',
      '/protected%2f',
      '/%2fprotected',
      '/protected%00',
      '/protected%20',
      '/protected;x',
      '/protected\\',
      '/Protected',
      '/PROTECTED',
      '/protected.',
      '/protected%3f',
      '/.well-known%2fjwks.json',
      '/Healthz',
      `/${'a'.repeat(8_000)}`,
    ])
      assertRefused(await say(head('GET', target, bearer())), 'not_found', target);
    for (const target of ['/Login', '/login/', '//login', '/login%2f']) assertRefused(await say(head('POST', target)), 'not_found', target);
    await assertStillIn();
  });

  test('a path that cannot be decoded', async () => {
    for (const target of ['/%', '/%zz', '/%ff', '/protected%', '/%c0%af', '/%ed%a0%80'])
      assertRefused(await say(head('GET', target, bearer())), 'path_malformed', target);
  });

  test('what is no target at all', async () => {
    for (const target of ['', 'protected', '?x', '/protecteé', '/a b'])
      assertRefused(await say(head('GET', target, bearer())), 'request_malformed', target);
  });

  test('a target that names another host than Host does', async () => {
    for (const target of [
      'https://other/protected',
      'https://user@localhost/protected',
      'https:///protected',
      'https://localhost:1/protected',
    ]) {
      assertRefused(await say(head('GET', target, bearer())), 'host_invalid', target);
    }
  });

  test('one longer than the headers may be', async () =>
    assertRefused(await say(head('GET', `/${'a'.repeat(20_000)}`)), 'headers_too_large'));
});

describe('Host and Authorization', () => {
  test('hosts as they should be', async () => {
    for (const host of [
      'localhost',
      'localhost:5000',
      '127.0.0.1',
      '127.0.0.1:5000',
      '[::1]',
      '[::1]:5000',
      'api.example.com',
      'API.example.com',
      ' localhost ',
    ]) {
      assert.equal((await say(head('GET', '/healthz', {}, host))).status, 200, host);
    }
  });

  test('and as they should not', async () => {
    for (const host of [
      '',
      'localhost/',
      'localhost/x',
      'a@localhost',
      'a:b@localhost',
      'local host',
      'localhost:',
      'localhost:x',
      'localhost:123456',
      'a,b',
      '[::1',
      '::1',
      '*',
      '%6cocalhost',
      'localhost?',
      'localhost#',
      'https://localhost',
      'localhost\\',
      'é',
      'a'.repeat(300),
    ]) {
      assertRefused(await say(head('GET', '/protected', { authorization: `Bearer ${access}` }, host)), 'host_invalid', host);
    }
  });

  test('two or none', async () => {
    const rest = `Connection: close\r\nAuthorization: Bearer ${access}\r\n\r\n`;
    for (const hosts of ['', 'Host: localhost\r\nHost: localhost\r\n', 'Host: localhost\r\nhOST: other\r\n']) {
      assertRefused(await say(`GET /protected HTTP/1.1\r\n${hosts}${rest}`), 'host_invalid', hosts);
    }
    assert.equal((await say(`GET /protected HTTP/1.0\r\n${rest}`)).status, 200, 'HTTP/1.0 needs none');
    assertRefused(await say(`GET /protected HTTP/1.0\r\nHost: a\r\nHost: a\r\n${rest}`), 'host_invalid');
  });

  test('two Authorizations, also two equal ones', async () => {
    for (const [one, two] of [
      [access, access],
      [access, 'x'],
      ['x', access],
    ]) {
      assertRefused(
        await say(
          `GET /protected HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nAuthorization: Bearer ${one}\r\nauthorization: Bearer ${two}\r\n\r\n`,
        ),
        'header_duplicated',
      );
    }
    assertRefused(
      await say(`GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nAuthorization: a\r\nAuthorization: b\r\n\r\n`),
      'header_duplicated',
    );
    await assertStillIn();
  });

  test('bytes that are no HTTP', async () => {
    for (const bytes of [
      'GET / HTTP/1.2\r\n\r\n',
      'GET / HTTP/1.1\r\nno colon\r\n\r\n',
      'GET / HTTP/1.1\r\nHost: x\r\nname : x\r\n\r\n',
      '\0\0\0\0',
    ])
      assertRefused(await say(bytes), 'request_malformed', bytes);
  });
});

describe('HTTP/2', () => {
  test('the same contract', async (t) => {
    const ask = await openHttp2(t, program);
    const json = { ':method': 'POST', 'content-type': 'application/json' };
    const login = await ask({ ...json, ':path': '/login' }, '{"username":"testuser","password":"password123"}');
    assert.equal(login.status, 200);
    assert.equal(login.json.expires_in, 900);
    const mine = { authorization: `Bearer ${login.json.access_token}` };
    assert.equal((await ask({ ':path': '/protected', ...mine })).text, '{"logged_in_as":"testuser"}');
    assert.equal((await ask({ ':path': '/protected', ':method': 'HEAD', ...mine })).text, '');
    assertRefused(await ask({ ':path': '/protected' }), 'token_missing');
    assertRefused(await ask({ ':path': '/protected', authorization: 'Bearer x' }), 'token_invalid');
    assertRefused(await ask({ ':path': '/refresh', ':method': 'POST', ...mine }), 'refresh_token_required');
    assertRefused(await ask({ ...json, ':path': '/login' }, '{"username":"testuser","password":"x"}'), 'credentials_invalid');
    assertRefused(await ask({ ...json, ':path': '/login' }, '{'), 'body_malformed');
    const tooLarge = await ask({ ...json, ':path': '/login' }, 'x'.repeat(20_000));
    assertRefused(tooLarge, 'body_too_large');
    assert.equal(tooLarge.headers.connection, undefined);
    assertRefused(await ask({ ...json, ':path': '/login', 'content-encoding': 'gzip' }, '{}'), 'encoding_unsupported');
    assertRefused(await ask({ ':path': '/login' }), 'method_not_allowed');
    assertRefused(await ask({ ':path': '/nope' }), 'not_found');
    assertRefused(await ask({ ':path': '/%' }), 'path_malformed');
    const options = await ask({ ':path': '/login', ':method': 'OPTIONS' });
    assert.equal(`${options.status} ${options.headers.allow}`, '204 POST, OPTIONS');
    assert.equal((await ask({ ':path': '/refresh', ':method': 'POST', authorization: `Bearer ${login.json.refresh_token}` })).status, 200);
    assert.equal((await ask({ ':path': '/logout', ':method': 'POST', ...mine })).text, '{"msg":"Successfully logged out"}');
    assertRefused(await ask({ ':path': '/protected', ...mine }), 'token_revoked');
  });

  test(':authority and Host', async (t) => {
    const ask = await openHttp2(t, program);
    const asked = { ':path': '/protected', ':authority': `localhost:${program.port}`, authorization: `Bearer ${access}` };
    assert.equal((await ask(asked)).status, 200);
    assert.equal((await ask({ ...asked, host: `localhost:${program.port}` })).status, 200);
    assertRefused(await ask({ ...asked, host: 'other' }), 'host_invalid');
    assertRefused(await ask({ ...asked, ':authority': 'a,b' }), 'host_invalid');
  });
});
