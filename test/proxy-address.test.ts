import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as wait } from 'node:timers/promises';
import { describe, test } from 'node:test';
import { type Answer, demoUser, folderFor, sharedProgram, startProgram, wideLimits } from './support/program.ts';
import { assertLimited, assertRefused } from './support/refusal.ts';
import { head, openHttp2, speak } from './support/speak.ts';

const PROXY = '127.0.0.1';
const OTHER = '127.0.0.2';
const ID = '0b0ad9a2-52c1-4b6c-8d1c-5f2e8f3a9f10';

let names = 0;
/** Someone else each time: here it is the address that counts, and not the name. */
const nobody = () => ({ username: `nobody ${(names += 1)}`, password: 'x' });

describe('behind a declared proxy', () => {
  const TRUSTED_PROXIES = `${PROXY}, 10.0.0.0/8, 2001:db8:ffff::/48`;
  const program = sharedProgram({ ...wideLimits, TRUSTED_PROXIES, LOGIN_LIMITS: '1 per minute' });

  const attempt = (forwarded: string | undefined, from?: string): Promise<Answer> =>
    program.ask('POST', '/login', {
      json: nobody(),
      headers: forwarded === undefined ? {} : { 'x-forwarded-for': forwarded },
      ...(from && { from }),
    });

  /** Who counts as whom: the second of two requests is refused when both count as one. */
  const isSame = async (one: string | undefined, two: string | undefined): Promise<boolean> => {
    await attempt(one);
    const answer = await attempt(two);
    if (answer.status === 429) assertLimited(answer, 'login', 1, 60);
    else assertRefused(answer, 'credentials_invalid');
    return answer.status === 429;
  };

  test('the first hop from the right that no declared proxy is counts', async () => {
    assert.ok(await isSame('203.0.113.1', '203.0.113.1'));
    assert.ok(!(await isSame('203.0.113.2', '203.0.113.3')));
    assert.ok(await isSame('1.1.1.1, 203.0.113.4', '2.2.2.2, 203.0.113.4'), 'what stands left of it, anyone may have written');
    assert.ok(await isSame('203.0.113.5', '203.0.113.5, 10.1.2.3, 2001:db8:ffff::1'), 'declared hops are passed over');
    assert.ok(!(await isSame('203.0.113.6', '203.0.113.6, 192.0.2.1')), 'undeclared ones are not');
    assert.ok(await isSame('  203.0.113.7  ', 'x,203.0.113.7,10.0.0.1'));
  });

  test('ports, brackets, IPv4 in IPv6', async () => {
    assert.ok(await isSame('198.51.100.1', '198.51.100.1:4711'));
    assert.ok(await isSame('198.51.100.2', '::ffff:198.51.100.2'));
    assert.ok(await isSame('2001:db8:0:1::1', '[2001:db8:0:1::1]:4711'));
    assert.ok(await isSame('2001:db8:0:2::1', '[2001:DB8:0:2::1]'));
  });

  test('IPv6 counts by /64', async () => {
    assert.ok(await isSame('2001:db8:1:1::1', '2001:db8:1:1:ffff:ffff:ffff:ffff'));
    assert.ok(!(await isSame('2001:db8:1:2::1', '2001:db8:1:3::1')));
  });

  test('what is no address counts as the last good hop, here the proxy itself', async () => {
    assertRefused(await attempt(undefined), 'credentials_invalid');
    for (const garbage of [
      undefined,
      '',
      'unknown',
      '999.1.1.1',
      '203.0.113.50, evil',
      'fe80::1%eth0',
      '_hidden',
      '127.0.0.1:99999x',
      '203.0.113.51,',
      '<script>',
      `${'1,'.repeat(2_000)}x`,
    ]) {
      assertLimited(await attempt(garbage), 'login', 1, 60);
    }
    assertRefused(await attempt('evil, 203.0.113.52'), 'credentials_invalid');
    assert.ok(await isSame('evil, 10.2.2.2', 'nothing, 10.2.2.2'), 'a declared one, then garbage: that one');
  });

  test('two X-Forwarded-For headers are one list', async () => {
    assertRefused(await attempt('203.0.113.60'), 'credentials_invalid');
    const body = JSON.stringify(nobody());
    const lines = `POST /login HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Type: application/json\r\nContent-Length: ${body.length}\r\n`;
    assertLimited(
      await speak(program, `${lines}X-Forwarded-For: 203.0.113.61\r\nX-Forwarded-For: 203.0.113.60\r\n\r\n${body}`, { from: PROXY }),
      'login',
      1,
      60,
    );
  });

  test("from anyone else it is nobody's word", async () => {
    assertRefused(await attempt('203.0.113.70', OTHER), 'credentials_invalid');
    for (const forwarded of [undefined, '203.0.113.71', PROXY, '10.0.0.1']) assertLimited(await attempt(forwarded, OTHER), 'login', 1, 60);
    assertRefused(await attempt('203.0.113.71'), 'credentials_invalid');
  });

  test("other headers of that kind are nobody's word at all", async () => {
    assertRefused(
      await program.ask('POST', '/login', { json: nobody(), headers: { 'x-forwarded-for': '203.0.113.80' } }),
      'credentials_invalid',
    );
    for (const name of [
      'forwarded',
      'x-real-ip',
      'true-client-ip',
      'cf-connecting-ip',
      'x-client-ip',
      'x-forwarded-host',
      'x-original-url',
      'x-rewrite-url',
      'x-http-method-override',
    ]) {
      const answer = await program.ask('POST', '/login', {
        json: nobody(),
        headers: { 'x-forwarded-for': '203.0.113.80', [name]: name === 'forwarded' ? 'for=203.0.113.81' : '203.0.113.81' },
      });
      assertLimited(answer, 'login', 1, 60);
    }
  });

  test('the log names the client', { timeout: 20_000 }, async () => {
    assert.equal(
      (await program.ask('POST', '/login', { json: demoUser, headers: { 'x-forwarded-for': '203.0.113.90', 'x-request-id': ID } })).status,
      200,
    );
    const isNamed = (line: string): boolean =>
      ['"act":"login"', '"address":"203.0.113.90"', `"requestId":"${ID}"`].every((part) => line.includes(part));
    const isWritten = (): boolean => readFileSync(join(program.folder, 'security.log'), 'utf8').split('\n').some(isNamed);
    while (!isWritten()) await wait(20); // the log is written behind the answers
  });

  test('its X-Request-Id is kept, if it is a UUID', async () => {
    const idOf = async (id: string, from?: string) =>
      (await program.ask('GET', '/nope', { headers: { 'x-request-id': id }, ...(from && { from }) })).headers['x-request-id'];
    assert.equal(await idOf(ID), ID);
    assert.equal(await idOf(ID.toUpperCase()), ID);
    const { json } = await program.ask('GET', '/nope', { headers: { 'x-request-id': ID } });
    assert.equal(json.instance, `urn:uuid:${ID}`);
    for (const odd of ['', 'x', `${ID}x`, `{${ID}}`, ID.replaceAll('-', ''), `${ID}, ${ID}`, '<script>'])
      assert.match(String(await idOf(odd)), /^[0-9a-f]{8}-[0-9a-f-]{27}$/, odd);
    assert.notEqual(await idOf(ID, OTHER), ID, 'from anyone else it is not');
    const twice = await speak(
      program,
      `GET /nope HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nX-Request-Id: ${ID}\r\nX-Request-Id: ${ID}\r\n\r\n`,
    );
    assert.notEqual(twice.headers['x-request-id'], ID);
  });

  test('over HTTP/2 too', async (t) => {
    const ask = await openHttp2(t, program);
    const login = {
      ':method': 'POST',
      ':path': '/login',
      'content-type': 'application/json',
      'x-forwarded-for': '203.0.113.99',
      'x-request-id': ID,
    };
    const answer = await ask(login, '{}');
    assertRefused(answer, 'body_invalid');
    assert.equal(answer.headers['x-request-id'], ID);
    assertLimited(await ask(login, '{}'), 'login', 1, 60);
    assertRefused(await ask({ ...login, 'x-forwarded-for': '203.0.113.98' }, '{}'), 'body_invalid');
  });
});

describe('behind a declared proxy that writes Forwarded', () => {
  const program = sharedProgram({
    ...wideLimits,
    TRUSTED_PROXIES: `${PROXY}, 10.0.0.0/8`,
    TRUSTED_PROXY_HEADER: 'forwarded',
    IPV6_PREFIX: '56',
    LOGIN_LIMITS: '1 per minute',
  });
  const fields = { 'content-type': 'application/json', 'content-length': '2' };
  const attempt = (...lines: string[]) =>
    speak(program, head('POST', '/login', fields).replace(/\r\n$/, lines.map((line) => `${line}\r\n`).join('') + '\r\n') + '{}');

  test('several lines are one list, from the right; X-Forwarded-For is not looked at', async () => {
    assertRefused(await attempt('Forwarded: for=203.0.113.1'), 'body_invalid');
    assertLimited(await attempt('Forwarded: for=203.0.113.2', 'Forwarded: for=203.0.113.1', 'forwarded: for=10.0.0.1'), 'login', 1, 60);
    assertLimited(
      await attempt('Forwarded: for="203.0.113.2', 'Forwarded: for=203.0.113.1', 'X-Forwarded-For: 203.0.113.3'),
      'login',
      1,
      60,
    );
    assertRefused(await attempt('X-Forwarded-For: 203.0.113.3'), 'body_invalid');
    assertLimited(await attempt('X-Forwarded-For: 203.0.113.4'), 'login', 1, 60);
  });

  test('over HTTP/2 too', async (t) => {
    const ask = await openHttp2(t, program);
    const login = { ':method': 'POST', ':path': '/login', 'content-type': 'application/json' };
    const from = (...lines: string[]) => ({ ...login, ...Object.fromEntries([['forwarded', lines]]) });
    assertRefused(await ask(from('for=203.0.113.2', 'for="203.0.113.11:4711"'), '{}'), 'body_invalid');
    assertLimited(await ask(from('for=203.0.113.11', 'for=10.0.0.1'), '{}'), 'login', 1, 60);
  });

  test('IPv6 counts by the prefix that is set', async () => {
    assertRefused(await attempt('Forwarded: for="[2001:db8:1:100::1]"'), 'body_invalid');
    assertLimited(await attempt('Forwarded: for="[2001:db8:1:1ff::1]"'), 'login', 1, 60);
    assertRefused(await attempt('Forwarded: for="[2001:db8:1:200::1]"'), 'body_invalid');
  });
});

test('without a declared proxy no word is believed', async (t) => {
  const program = await startProgram(t, { settings: { ...wideLimits, LOGIN_LIMITS: '1 per minute' } });
  const ask = (forwarded: string) =>
    program.ask('POST', '/login', { json: {}, headers: { 'x-forwarded-for': forwarded, 'x-forwarded-proto': 'http', 'x-request-id': ID } });
  const first = await ask('203.0.113.1');
  assertRefused(first, 'body_invalid');
  assert.notEqual(first.headers['x-request-id'], ID);
  assertLimited(await ask('203.0.113.2'), 'login', 1, 60);
});

test('where the proxy ends TLS: only what it says came over https is answered', async (t) => {
  const program = await startProgram(t, {
    folder: folderFor(t),
    settings: { ...wideLimits, TLS_AT_PROXY: 'true', TRUSTED_PROXIES: PROXY },
    ca: '',
  });
  const say = (target: string, fields: Record<string, string> = {}, from = PROXY) =>
    speak(program, head('GET', target, fields), { plain: true, from });
  const https = { 'x-forwarded-proto': 'https', 'x-forwarded-for': '203.0.113.1' };

  const good = await say('/openapi.json', https);
  assert.equal(good.status, 200);
  assert.ok(good.headers['strict-transport-security'], "the caller's connection is TLS");
  assertRefused(await say('/protected', https), 'token_missing');
  assertRefused(await say('/%', https), 'path_malformed');
  for (const [fields, from] of [
    [{}, PROXY],
    [{ 'x-forwarded-proto': 'http' }, PROXY],
    [{ 'x-forwarded-proto': 'https,http' }, PROXY],
    [{ 'x-forwarded-proto': 'HTTPS ' }, PROXY],
    [https, OTHER],
  ] as const) {
    for (const target of ['/openapi.json', '/protected', '/nope', '/%', '/.well-known/jwks.json']) {
      const answer = await say(target, fields, from);
      assertRefused(answer, 'https_required', target);
      assert.equal(answer.headers['strict-transport-security'], undefined);
    }
  }
  for (const target of ['/healthz', '/readyz']) assert.equal((await say(target)).status, 200, 'a balancer may ask in clear');
});
