import { existsSync } from 'node:fs';
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import { setTimeout as wait } from 'node:timers/promises';
import { without } from './support/needs.ts';
import { type Program, shared, sharedProgram, startProgram, wideLimits } from './support/program.ts';
import { configsOf, startProxy } from './support/proxy.ts';
import { assertLimited, assertRefused } from './support/refusal.ts';
import { head, openHttp2, speak } from './support/speak.ts';

const PROXY = '127.0.0.1';
const FORGED = '203.0.113.66';
const settings = { ...wideLimits, TRUSTED_PROXIES: PROXY, LOGIN_LIMITS: '1 per minute' };
const programAtProxy = (header: string): Program =>
  shared((t) => startProgram(t, { settings: { ...settings, TLS_AT_PROXY: 'true', TRUSTED_PROXY_HEADER: header }, ca: '' }));
type Where = { port: number; ca: string };

const [nginxPlain = '', nginxForwarded = ''] = configsOf('docs/how-to/tls-at-a-proxy.md', 'nginx');
const [haproxyPlain = '', haproxySsl = ''] = configsOf('docs/how-to/tls-at-a-proxy.md', 'haproxy');
const [haproxyTcp = ''] = configsOf('docs/how-to/behind-a-proxy.md', 'haproxy');

/** Whatever of this kind a caller may write. */
const forgeries: readonly Record<string, string>[] = [
  {},
  { 'X-Forwarded-For': FORGED, 'X-Real-IP': FORGED, 'True-Client-IP': FORGED, 'X-Forwarded-Host': 'evil.example' },
  { 'X-Forwarded-For': `${FORGED}, ${PROXY}`, 'X-Forwarded-Proto': 'http', Forwarded: `for=${FORGED};proto=http` },
  { Forwarded: `for="${FORGED}`, 'X-Forwarded-For': 'x"' },
  { Forwarded: `for=${FORGED}, for="\\`, 'X-Forwarded-Proto': 'https, http' },
];

let clients = 1;
const newClient = (): string => `127.0.0.${++clients}`;

/** A name for each: so many failures of one would be summed in the log. */
const loginAs = (username: string): string => JSON.stringify({ username, password: 'wrong' });

function login(through: Where, from: string, forged: Record<string, string> = {}): ReturnType<typeof speak> {
  const body = loginAs(from);
  const fields = { ...forged, 'Content-Type': 'application/json', 'Content-Length': String(body.length) };
  return speak(through, head('POST', '/login', fields) + body, { from });
}

/** Two callers through one proxy: each has a limit of his own, whatever he writes, and his address is in the log. */
async function assertToldApart(program: Program, through: Where): Promise<void> {
  const callers = [newClient(), newClient()];
  for (const from of callers) {
    for (const [i, forged] of forgeries.entries()) {
      const answer = await login(through, from, forged);
      if (i === 0) assertRefused(answer, 'credentials_invalid', from);
      else assertLimited(answer, 'login', 1, 60);
    }
  }
  for (const from of callers)
    for (const code of ['credentials_invalid', 'rate_limited']) await isLogged(program, code, `"address":"${from}"`);
  assert.ok(!logOf(program).includes(FORGED));
}

const logOf = (program: Program): string => readFileSync(join(program.folder, 'security.log'), 'utf8');

/** A line with all of these is there, or soon is: the log is written behind the answers. */
async function isLogged(program: Program, ...parts: string[]): Promise<void> {
  for (let waited = 0; waited < 200; waited++, await wait(25)) {
    if (
      logOf(program)
        .split('\n')
        .some((line) => parts.every((part) => line.includes(part)))
    )
      return;
  }
  assert.fail(`no line has ${parts.join(' and ')}:\n${logOf(program)}`);
}

async function assertNotAskedDirectly(program: Program): Promise<void> {
  const asked = head('GET', '/openapi.json', { 'X-Forwarded-Proto': 'https', Forwarded: 'proto=https' });
  assertRefused(await speak(program, asked, { plain: true, from: newClient() }), 'https_required');
}

const skip = without(
  'nginx or HAProxy',
  ['nginx', 'haproxy'].every((name) => existsSync(`/usr/sbin/${name}`)),
);

describe('TLS at the proxy, X-Forwarded-For', { timeout: 30_000, skip }, () => {
  const program = programAtProxy('x-forwarded-for');
  test('nginx', async (t) => assertToldApart(program, await startProxy(t, 'nginx', { config: nginxPlain, to: program.port })));
  test('HAProxy, over HTTP/1.1 and HTTP/2', async (t) => {
    const through = await startProxy(t, 'haproxy', { config: haproxyPlain, to: program.port });
    await assertToldApart(program, through);
    const from = newClient();
    const ask = await openHttp2(t, through, from);
    const fields = { ':method': 'POST', ':path': '/login', 'content-type': 'application/json', 'x-forwarded-for': [FORGED, '::1'] };
    assertRefused(await ask(fields, loginAs(from)), 'credentials_invalid');
    assertLimited(await ask(fields, loginAs(from)), 'login', 1, 60);
    assertLimited(await login(through, from), 'login', 1, 60);
  });
  test('and nobody else', () => assertNotAskedDirectly(program));
});

describe('TLS at the proxy, Forwarded', { timeout: 30_000, skip }, () => {
  const program = programAtProxy('forwarded');
  test('nginx', async (t) => assertToldApart(program, await startProxy(t, 'nginx', { config: nginxForwarded, to: program.port })));
  test('a proxy that sends the other header only', async (t) => {
    const through = await startProxy(t, 'nginx', { config: nginxPlain, to: program.port });
    for (const forged of forgeries) assertRefused(await login(through, newClient(), forged), 'https_required');
  });
  test('and nobody else', () => assertNotAskedDirectly(program));
});

describe('TLS at the proxy, PROXY protocol', { timeout: 30_000, skip }, () => {
  const program = programAtProxy('proxy-protocol');
  test('HAProxy, version 2 with its SSL part', async (t) => {
    const through = await startProxy(t, 'haproxy', { config: haproxySsl, to: program.port });
    await assertToldApart(program, through);
    const ask = await openHttp2(t, through, newClient());
    const id = '0b0ad9a2-52c1-4b6c-8d1c-5f2e8f3a9f10';
    const { status, headers } = await ask({ ':path': '/openapi.json', 'x-request-id': id });
    assert.equal(status, 200);
    assert.notEqual(headers['x-request-id'], id, 'the proxy passes on what the caller wrote');
  });
  for (const way of ['send-proxy', 'send-proxy-v2'])
    test(`HAProxy, ${way}: it does not say that the caller used TLS`, async (t) => {
      const config = haproxySsl
        .replace('send-proxy-v2-ssl', way)
        .replace('mode http', 'mode http\n  http-request set-header X-Forwarded-Proto https');
      const through = await startProxy(t, 'haproxy', { config, to: program.port });
      assertRefused(await login(through, newClient()), 'https_required');
    });
  test('a proxy that speaks for itself may look at its health, and no header of it is believed', async () => {
    const id = '0b0ad9a2-52c1-4b6c-8d1c-5f2e8f3a9f10';
    const asked = (path: string) =>
      `PROXY UNKNOWN\r\n${head('GET', path, { 'X-Forwarded-For': FORGED, 'X-Forwarded-Proto': 'https', Forwarded: 'proto=https', 'X-Request-Id': id })}`;
    const healthy = await speak(program, asked('/healthz'), { plain: true });
    assert.equal(healthy.status, 200);
    assert.notEqual(healthy.headers['x-request-id'], id);
    assertRefused(await speak(program, asked('/openapi.json'), { plain: true }), 'https_required');
    assert.ok(!logOf(program).includes(FORGED));
  });
  test('and nobody else', () => assertNotAskedDirectly(program));
});

describe('TLS passed through, PROXY protocol', { timeout: 30_000, skip }, () => {
  const program = sharedProgram({ ...settings, TRUSTED_PROXY_HEADER: 'proxy-protocol' });
  for (const way of ['send-proxy', 'send-proxy-v2'])
    test(`HAProxy, ${way}`, async (t) => {
      const { port } = await startProxy(t, 'haproxy', { config: haproxyTcp.replace('send-proxy-v2', way), to: program.port });
      const through = { port, ca: program.ca };
      await assertToldApart(program, through);
      const ask = await openHttp2(t, through, newClient());
      assert.equal((await ask({ ':path': '/openapi.json' })).status, 200);
    });
  test('anyone else needs none', async () => assertToldApart(program, program));
  test('a proxy that sends none is answered nothing', async (t) => {
    const config = haproxyTcp.replace('check send-proxy-v2', '');
    const { port } = await startProxy(t, 'haproxy', { config, to: program.port });
    await assert.rejects(login({ port, ca: program.ca }, newClient()), /disconnected before secure/);
    await isLogged(program, 'proxy_header_invalid', `"address":"${PROXY}"`);
  });
});
