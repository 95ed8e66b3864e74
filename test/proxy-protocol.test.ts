import assert from 'node:assert/strict';
import { once } from 'node:events';
import type { IncomingMessage } from 'node:http';
import net from 'node:net';
import { afterEach, describe, test, type TestContext } from 'node:test';
import { setTimeout as wait } from 'node:timers/promises';
import type { WireOptions } from '../packages/server/src/http/wire.ts';
import { peerOf } from '../packages/server/src/http/wire/connections.ts';
import { ask, closeClients, forever, get, openSession, openTcp, openTls, start as startWire, trickle } from './wire/support.ts';

const PROXY = '127.0.0.2';
const one = (address: string): string => `PROXY TCP4 ${address} 10.0.0.5 4711 443\r\n`;
const two = (address: string, more: readonly number[] = []): Buffer =>
  Buffer.from([
    ...Buffer.from('\r\n\r\n\0\r\nQUIT\n', 'latin1'),
    0x21,
    0x11,
    0,
    12 + more.length,
    ...`${address}.10.0.0.5.18.103.1.187`.split('.').map(Number),
    ...more,
  ]);
const local = Buffer.from('\r\n\r\n\0\r\nQUIT\n\x20\0\0\0', 'latin1');
const ssl = [0x20, 0, 5, 1, 0, 0, 0, 0];

afterEach(closeClients);

/** A wire that answers who asks, and notes what it refuses. */
async function start(t: TestContext, options: Partial<WireOptions> = {}) {
  const refused: string[] = [];
  const running = await startWire(
    t,
    {
      proxyProtocol: true,
      isProxy: (address) => address === PROXY,
      refusal: (code, _, from, reason) => {
        refused.push(`${code} ${from?.address} ${reason}`);
        return { status: 400, reason: code, headers: {}, body: '' };
      },
      ...options,
    },
    (request: IncomingMessage, response) => {
      const peer = peerOf(request.socket);
      running.handled.push(`${request.method} ${request.url}`);
      response.end(`${request.httpVersion} from ${peer?.address}${peer?.encrypted ? '' : ' in clear'}`);
    },
  );
  return { ...running, refused };
}

/** The proxy: says its header before it passes on what comes, in a piece with that, or each by itself. */
async function proxy(
  t: TestContext,
  to: number,
  header: string | Buffer,
  how: 'together' | 'apart' | 'in bytes' = 'apart',
): Promise<number> {
  const server = net.createServer((client) => {
    const back = net.connect({ host: '127.0.0.1', port: to, localAddress: PROXY, noDelay: true });
    for (const [from, onto] of [
      [client, back],
      [back, client],
    ] as const)
      from.on('error', () => {}).on('close', () => onto.destroy());
    back.pipe(client);
    client.once('data', (first: Buffer) => {
      client.pause();
      void (async () => {
        if (how === 'apart') back.write(header);
        else if (how === 'in bytes') for (const byte of Buffer.from(header)) await wait(1, back.write(Buffer.of(byte)));
        if (how !== 'together') await wait(20);
        back.write(how === 'together' ? Buffer.concat([Buffer.from(header), first]) : first);
        client.pipe(back);
      })();
    });
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  t.after(() => server.close());
  return (server.address() as net.AddressInfo).port; // a TCP server's
}

const asked = async (port: number): Promise<string> => {
  const client = await openTls(port);
  client.socket.write(get('/'));
  return (await client.until(/from .*$/)).split('\r\n\r\n')[1] ?? '';
};

describe('the PROXY protocol before TLS', () => {
  for (const how of ['together', 'apart', 'in bytes'] as const)
    test(`the connection is whose the header names, which comes ${how}`, async (t) => {
      const { port, refused } = await start(t);
      for (const [header, address] of [
        [one('203.0.113.7'), '203.0.113.7'],
        ['PROXY TCP6 2001:DB8::7 ::1 1 2\r\n', '2001:db8::7'],
        ['PROXY TCP6 ::ffff:203.0.113.8 ::1 1 2\r\n', '203.0.113.8'],
        [two('203.0.113.9'), '203.0.113.9'],
        [local, PROXY],
        ['PROXY UNKNOWN\r\n', PROXY],
      ] as const) {
        const through = await proxy(t, port, header, how);
        assert.equal(await asked(through), `1.1 from ${address}`);
        const session = await openSession(t, through);
        assert.equal((await ask(session)).body, `2.0 from ${address}`);
        session.destroy();
      }
      assert.deepEqual(refused, []);
    });

  test('without a good one, a proxy is hung up on', async (t) => {
    const { port, refused, handled, wire } = await start(t);
    for (const [bytes, why] of [
      [get('/'), 'does not begin with a PROXY header'],
      [Buffer.from([0x16, 3, 1, 0, 200, 1]), 'does not begin with a PROXY header'],
      [`PROXY TCP4 203.0.113.7 10.0.0.5 1\r\n${get('/')}`, 'PROXY header: the line is malformed'],
      [`PROXY ${'x'.repeat(200)}`, 'PROXY header: the line has no end'],
    ] as const) {
      const client = await openTcp(port, PROXY);
      client.socket.write(bytes);
      assert.equal(await client.closed, '');
      assert.equal(refused.pop(), `proxy_header_invalid ${PROXY} ${why}`);
    }
    const client = await openTcp(port, PROXY);
    client.socket.end('PROXY TCP4 203.0');
    assert.equal(await client.closed, '');
    assert.deepEqual(refused, [`proxy_header_invalid ${PROXY} PROXY header: it broke off`]);
    assert.deepEqual([handled, wire.connections()], [[], 0]);
  });

  test('one that only knocks, or breaks off with a reset, is no refusal and leaves nothing behind', async (t) => {
    const { port, refused, wire } = await start(t);
    for (const bytes of ['', 'PROXY', one('203.0.113.7')]) {
      const client = await openTcp(port, PROXY);
      if (bytes) client.socket.write(bytes);
      await wait(20);
      client.socket.resetAndDestroy();
    }
    const knock = await openTcp(port, PROXY);
    knock.socket.end();
    await knock.closed;
    for (let turns = 0; wire.connections() > 0; turns++) await wait(5, assert.ok(turns < 400));
    assert.deepEqual(refused, []);
  });

  test('header and handshake together have handshakeMs', async (t) => {
    const { port, refused } = await start(t, { times: { handshakeMs: 150 } });
    const silent = await openTcp(port, PROXY);
    const slow = await openTcp(port, PROXY);
    slow.socket.write('PROXY UNKNOWN ');
    trickle(slow.socket, forever(0x41), 30);
    const named = await openTcp(port, PROXY);
    named.socket.write(one('203.0.113.7'));
    assert.deepEqual(await Promise.all([silent.closed, slow.closed, named.closed]), ['', '', '']);
    const late = `proxy_header_invalid ${PROXY} PROXY header: not complete in time`;
    assert.deepEqual(refused, [late, late], 'the third had said who it is');
  });

  test('plain HTTP behind it is told so, and logged by whom it named', async (t) => {
    const { port, refused } = await start(t);
    const client = await openTcp(port, PROXY);
    client.socket.write(one('203.0.113.7') + get('/'));
    assert.match(await client.closed, /^HTTP\/1\.1 400 https_required/);
    assert.deepEqual(refused, ['https_required 203.0.113.7 undefined']);
  });

  test('one header is read: a second one is no TLS', async (t) => {
    const { port, handled } = await start(t);
    await assert.rejects(asked(await proxy(t, port, one('203.0.113.7') + one('203.0.113.8'))));
    await assert.rejects(asked(await proxy(t, port, Buffer.concat([two('203.0.113.7'), two('203.0.113.8')]))));
    assert.deepEqual(handled, []);
  });

  test('from anyone else it is not looked at', async (t) => {
    const { port, handled, refused } = await start(t);
    for (const [header, answer] of [
      [one('203.0.113.7'), /^HTTP\/1\.1 400 https_required/],
      [two('203.0.113.7'), /^$/],
    ] as const) {
      const client = await openTcp(port, '127.0.0.3');
      client.socket.write(header);
      assert.match(await client.closed, answer);
    }
    assert.deepEqual([handled, refused], [[], ['https_required 127.0.0.3 undefined']]);
    assert.equal(await asked(port), '1.1 from 127.0.0.1');
  });

  test('without that setting a proxy has none either', async (t) => {
    const { port } = await start(t, { proxyProtocol: false });
    await assert.rejects(asked(await proxy(t, port, one('203.0.113.7'))));
  });
});

describe('the PROXY protocol before plain HTTP', () => {
  test('whether the caller used TLS is what version 2 says of it', async (t) => {
    const { port, refused } = await start(t, { tls: 'at-proxy' });
    for (const [header, who] of [
      [one('203.0.113.7'), '203.0.113.7 in clear'],
      [two('203.0.113.7'), '203.0.113.7 in clear'],
      [two('203.0.113.7', [0x20, 0, 5, 0, 0, 0, 0, 0]), '203.0.113.7 in clear'],
      [two('203.0.113.7', ssl), '203.0.113.7'],
      [local, `${PROXY} in clear`],
    ] as const) {
      for (const pause of [0, 30]) {
        const client = await openTcp(port, PROXY);
        client.socket.setNoDelay().write(pause ? header : Buffer.concat([Buffer.from(header), Buffer.from(get('/1'))]));
        await wait(pause);
        client.socket.write(pause ? get('/1') + get('/2') : get('/2'));
        const said = await client.until(/from [^]*from [^]*$/);
        assert.deepEqual(said.match(/from .*?(?=HTTP|$)/g), [`from ${who}`, `from ${who}`]);
      }
    }
    const stranger = await openTcp(port, '127.0.0.3');
    stranger.socket.write(two('203.0.113.7', ssl));
    await stranger.closed;
    assert.deepEqual(refused, ['request_malformed 127.0.0.3 undefined']);
  });
});

describe('the bound of an address', () => {
  test('is that of the caller, through proxies or not', async (t) => {
    const { port, wire } = await start(t, { tls: 'at-proxy', maxConnectionsPerAddress: 2 });
    const open = async (address: string) => {
      const client = await openTcp(port, PROXY);
      client.socket.write(two(address, ssl));
      client.socket.write(get('/'));
      await client.until('from');
      return client;
    };
    const other = await open('203.0.113.8');
    const first = await open('203.0.113.7');
    const second = await open('203.0.113.7');
    const third = await open('203.0.113.7');
    await first.closed;
    assert.ok(![other, second, third].some(({ socket }) => socket.destroyed));
    assert.equal(wire.connections(), 3);
    third.socket.destroy();
    await third.closed;
    while (wire.connections() > 2) await wait(5);
    await open('203.0.113.7');
    assert.ok(!second.socket.destroyed, 'what has gone is not counted');
  });

  test('IPv6 by the prefix', async (t) => {
    const { port } = await start(t, { tls: 'at-proxy', maxConnectionsPerAddress: 1, ipv6Prefix: 48 });
    const open = async (address: string) => {
      const client = await openTcp(port, PROXY);
      client.socket.write(`PROXY TCP6 ${address} ::1 1 2\r\n${get('/')}`);
      await client.until('from');
      return client;
    };
    const far = await open('2001:db8:2::1');
    const first = await open('2001:db8:1:1::1');
    await open('2001:db8:1:2::1');
    await first.closed;
    assert.ok(!far.socket.destroyed);
  });

  test('is not the proxy’s, which may hold as many as come', async (t) => {
    const { port, wire } = await start(t, { maxConnectionsPerAddress: 1 });
    for (let count = 0; count < 4; count++) (await openTcp(port, PROXY)).socket.write(local);
    await wait(30);
    assert.equal(wire.connections(), 4);
  });
});
