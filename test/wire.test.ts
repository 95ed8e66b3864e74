import assert from 'node:assert/strict';
import { once } from 'node:events';
import type { RequestListener, ServerResponse } from 'node:http';
import http2 from 'node:http2';
import https from 'node:https';
import type { Socket } from 'node:net';
import { Readable } from 'node:stream';
import { afterEach, describe, test as nodeTest, type TestContext } from 'node:test';
import { setTimeout as wait } from 'node:timers/promises';
import tls from 'node:tls';
import fastify from 'fastify';
import { type GuardProblemCode, guardProblems, manualClock, normaliseAddress } from '@portcullis/guard';
import type { WireTimes } from '../packages/server/src/http/wire.ts';
import {
  ask,
  closeClients,
  flags,
  forever,
  frame,
  frames,
  get,
  makeCertificate,
  makeTestWire,
  openRawH2,
  openSession,
  openTcp,
  openTls,
  post,
  preface,
  requestBlock,
  start,
  trickle,
} from './wire/support.ts';

const addressOf = ({ socket }: { socket: { remoteAddress?: string | undefined } }): string => normaliseAddress(socket.remoteAddress ?? '');

afterEach(closeClients);

const test = (name: string, body: (t: TestContext) => Promise<void>): void => {
  nodeTest(name, { timeout: 10_000 }, body);
};

/** The one answer that a connection gave before it closed is this problem, as JSON, with our headers. */
function assertProblem(text: string, code: GuardProblemCode, overTls = true): void {
  const [head = '', body = ''] = text.split('\r\n\r\n', 2);
  assert.match(head, new RegExp(`^HTTP/1.1 ${guardProblems[code].status} `), text);
  assert.match(head, /^content-type: application\/problem\+json; charset=utf-8\r$/m);
  assert.match(head, /^connection: close\r?$/im);
  assert.match(head, /^cache-control: no-store\r$/m);
  assert.equal(/^strict-transport-security:/m.test(head), overTls);
  assert.doesNotMatch(head, /^location:/im);
  assert.equal(Number(/^content-length: (\d+)\r?$/m.exec(head)?.[1]), Buffer.byteLength(text) - head.length - 4, 'one answer and no more');
  assert.equal(JSON.parse(body).code, code);
  assert.match(JSON.parse(body).instance, /^urn:uuid:/);
}

/** A long answer that waits for its reader. */
const parts = (size: number): Readable =>
  Readable.from(
    Array.from({ length: size / 10_000 }, () => Buffer.alloc(10_000)),
    { objectMode: false },
  );

async function until(what: () => boolean): Promise<void> {
  for (let turns = 0; !what(); turns++) {
    assert.ok(turns < 1_000, `never ${what}`);
    await wait(5);
  }
}

describe('one port', () => {
  test('HTTP/1.1 and HTTP/2 are answered, and told who asks', async (t) => {
    const { port } = await start(t, {}, (request, response) => {
      response.end(`${request.httpVersion} from ${addressOf(request)}`);
    });
    const client = await openTls(port, { localAddress: '127.0.0.9' });
    client.socket.write(get('/'));
    await client.until('1.1 from 127.0.0.9');
    const session = await openSession(t, port, { localAddress: '127.0.0.8' });
    assert.equal((await ask(session)).body, '2.0 from 127.0.0.8');
  });

  test('a client without ALPN gets HTTP/1.1', async (t) => {
    const { port } = await start(t);
    const client = await openTls(port, { ALPNProtocols: undefined });
    client.socket.write(get('/plain'));
    await client.until('GET /plain');
  });

  test('Fastify answers through it over both protocols', async (t) => {
    const wire = makeTestWire();
    const app = fastify({ serverFactory: wire.serverFactory });
    app.post('/echo', async ({ body, raw }) => ({ body, from: addressOf(raw) }));
    await app.ready();
    const { port } = await wire.listen('127.0.0.1', 0);
    t.after(async () => {
      await wire.close(0);
      await app.close();
    });

    const client = await openTls(port);
    client.socket.write(
      post('/echo', 7, 'Content-Type: application/json\r\n') +
        '{"a":1}' +
        post('/echo', 8, 'Content-Type: application/json\r\n') +
        '{"a":22}',
    );
    await client.until('{"body":{"a":22},"from":"127.0.0.1"}');
    const session = await openSession(t, port);
    assert.equal(
      (await ask(session, { ':method': 'POST', ':path': '/echo', 'content-type': 'application/json' }, '{"a":3}')).body,
      '{"body":{"a":3},"from":"127.0.0.1"}',
    );
    client.socket.write('nonsense\r\n\r\n');
    assertProblem((await client.closed).split('"from":"127.0.0.1"}').at(-1) ?? '', 'request_malformed'); // and not Fastify's answer to it
  });

  test('plain HTTP is refused in JSON, whatever the method, and never redirected', async (t) => {
    const { port, handled, wire } = await start(t);
    for (const bytes of [get('/'), 'DELETE /x HTTP/1.0\r\n\r\n', 'patch', preface]) {
      const client = await openTcp(port);
      client.socket.write(bytes);
      assertProblem(await client.closed, 'https_required', false);
    }
    assert.deepEqual(handled, []);
    await until(() => wire.connections() === 0);
  });

  test('what is neither TLS nor HTTP is closed without a word', async (t) => {
    const { port, wire } = await start(t);
    for (const byte of [0x00, 0x80, 0x15, 0x20, 0xff]) {
      const client = await openTcp(port);
      client.socket.write(Buffer.of(byte, 1, 2, 3));
      assert.equal(await client.closed, '');
    }
    await until(() => wire.connections() === 0);
  });

  test('behind a TLS proxy it is plain HTTP/1.1, without HSTS of ours', async (t) => {
    const { port } = await start(t, { tls: 'at-proxy' }, (request, response) => {
      response.end(`hello ${addressOf(request)}`);
    });
    const client = await openTcp(port);
    client.socket.write(get('/'));
    await client.until('hello 127.0.0.1');
    client.socket.write('nonsense\r\n\r\n');
    const text = await client.closed;
    assertProblem(text.slice(text.lastIndexOf('HTTP/1.1')), 'request_malformed', false);
  });

  test("a port in use is the caller's to hear of", async (t) => {
    const { port } = await start(t);
    await assert.rejects(makeTestWire().listen('127.0.0.1', port), { code: 'EADDRINUSE' });
  });
});

describe('TLS', () => {
  test('1.2 and 1.3 are spoken, 1.1 is not', async (t) => {
    const { port } = await start(t);
    for (const version of ['TLSv1.2', 'TLSv1.3'] as const) {
      const { socket } = await openTls(port, { minVersion: version, maxVersion: version });
      assert.equal(socket.getProtocol(), version);
      socket.destroy();
    }
    await assert.rejects(
      openTls(port, { minVersion: 'TLSv1.1', maxVersion: 'TLSv1.1', ciphers: 'ALL:@SECLEVEL=0' }),
      /alert protocol version/,
    );
  });

  test('of 1.2, only forward-secret AEAD suites', async (t) => {
    const { port } = await start(t);
    const { socket } = await openTls(port, { maxVersion: 'TLSv1.2', ciphers: 'ALL' });
    assert.match(socket.getCipher().name, /^ECDHE-.*(GCM|POLY1305)/);
    socket.destroy();
    for (const ciphers of ['ECDHE-ECDSA-AES128-SHA256', 'ECDHE-ECDSA-AES256-SHA', 'AES128-GCM-SHA256'])
      await assert.rejects(openTls(port, { maxVersion: 'TLSv1.2', ciphers }), /alert handshake failure/, ciphers);
  });

  test('sessions are resumed', async (t) => {
    const { port } = await start(t);
    for (const maxVersion of ['TLSv1.2', 'TLSv1.3'] as const) {
      const first = tls.connect({ host: '127.0.0.1', port, rejectUnauthorized: false, maxVersion });
      const [session] = await once(first, 'session');
      first.destroy();
      const { socket } = await openTls(port, { session, maxVersion });
      assert.ok(socket.isSessionReused(), maxVersion);
      socket.destroy();
    }
  });

  test('nobody renegotiates', async (t) => {
    const { port } = await start(t);
    const client = await openTls(port, { maxVersion: 'TLSv1.2' });
    client.socket.renegotiate({}, () => {});
    await client.closed;
    assert.match(String(client.error), /no renegotiation/i);
  });

  test('a new certificate is for new connections; an unusable one changes nothing', async (t) => {
    const { port, wire } = await start(t);
    const old = await openTls(port);
    wire.setCertificate(await makeCertificate('renewed'));
    assert.throws(() => wire.setCertificate({ cert: 'no', key: 'no' }));
    const { socket } = await openTls(port);
    assert.equal(socket.getPeerCertificate().subject.CN, 'renewed');
    old.socket.write(get('/still'));
    await old.until('GET /still');
  });
});

describe('what Node would answer itself', () => {
  const chunked = 'Transfer-Encoding: chunked\r\n';
  const malformed: Record<string, string> = {
    'not HTTP': 'hello\r\n\r\n',
    'an unknown method': 'FROB / HTTP/1.1\r\nHost: a\r\n\r\n',
    'an unknown version': 'GET / HTTP/3.7\r\nHost: a\r\n\r\n',
    'no version': 'GET /\r\n\r\n',
    'HTTP/2 in the clothes of HTTP/1.1': 'GET / HTTP/2.0\r\nHost: a\r\n\r\n',
    'a blank before the colon': get('/', 'X : y\r\n'),
    'an obsolete fold': get('/', 'X: y\r\n z\r\n'),
    'a bare line feed': 'GET / HTTP/1.1\nHost: a\n\n',
    'a bare line feed among headers': 'GET / HTTP/1.1\r\nHost: a\nX: y\r\n\r\n',
    'a bare carriage return': get('/', 'X: y\rZ: z\r\n'),
    'a NUL in a header': get('/', 'X: a\0b\r\n'),
    'a header without a name': get('/', ': y\r\n'),
    'both lengths': post('/', 5, chunked) + '0\r\n\r\n',
    'two lengths': post('/', 5, 'Content-Length: 6\r\n') + 'abcdef',
    'the same length twice': post('/', 5, 'Content-Length: 5\r\n') + 'abcde',
    'a signed length': post('/', 5).replace(': 5', ': +5') + 'abcde',
    'a list of lengths': post('/', 5).replace(': 5', ': 5, 5') + 'abcde',
    'chunked, but not last': get('/', 'Transfer-Encoding: chunked, identity\r\n'),
    'chunked in another spelling': get('/', 'Transfer-Encoding: xchunked\r\n'),
    'an unreadable chunk': get('/', chunked).replace('GET', 'POST') + 'x\r\n',
    'a chunk longer than it says': get('/', chunked).replace('GET', 'POST') + '1\r\nabc\r\n0\r\n\r\n',
  };
  for (const [what, bytes] of Object.entries(malformed)) {
    test(`${what}: 400, and nothing after it is read`, async (t) => {
      const { port, handled } = await start(t);
      const client = await openTls(port);
      client.socket.write(bytes + get('/smuggled'));
      assertProblem(await client.closed, 'request_malformed');
      assert.deepEqual(handled, []);
    });
  }

  test('headers over 16 KiB: 431', async (t) => {
    const { port, handled } = await start(t);
    const client = await openTls(port);
    client.socket.write(get('/', `X: ${'x'.repeat(16 * 1024)}\r\n`));
    assertProblem(await client.closed, 'headers_too_large');
    const long = await openTls(port);
    long.socket.write(get(`/${'x'.repeat(16 * 1024)}`));
    assertProblem(await long.closed, 'headers_too_large');
    assert.deepEqual(handled, []);
  });

  test('HTTP/2 headers over 16 KiB: refused, also before the client has heard of the bound', async (t) => {
    const { port, handled } = await start(t);
    const early = http2.connect(`https://127.0.0.1:${port}`, { rejectUnauthorized: false });
    t.after(() => early.destroy());
    const { status, body } = await ask(early, { x: 'x'.repeat(20_000) });
    assert.equal(status, 431);
    assert.equal(JSON.parse(body).code, 'headers_too_large');
    assert.equal((await ask(early, { x: 'x'.repeat(20_000) })).status, 0);
    assert.equal((await ask(early, Object.fromEntries(Array.from({ length: 200 }, (_, at) => [`x-${at}`, ''])))).status, 0);
    assert.deepEqual(handled, []);
    assert.equal((await ask(early, { x: 'x'.repeat(15_000) })).status, 200);
  });

  test('no header is dropped, however many there are', async (t) => {
    const { port } = await start(t, {}, (request, response) => {
      response.end(`${request.rawHeaders.length / 2} headers`);
    });
    const client = await openTls(port);
    client.socket.write(get('/', 'a:\r\n'.repeat(3_000)));
    await client.until('3001 headers');
  });

  test("a request without Host is the guard's to judge", async (t) => {
    const { port, handled } = await start(t);
    const client = await openTls(port);
    client.socket.write('GET /hostless HTTP/1.1\r\n\r\n');
    await client.until('200 OK');
    assert.deepEqual(handled, ['GET /hostless']);
  });

  test('an unknown expectation: 417', async (t) => {
    const { port, handled } = await start(t);
    const client = await openTls(port);
    client.socket.write(post('/', 5, 'Expect: the-unexpected\r\n') + 'hello' + get('/after'));
    assertProblem(await client.closed, 'expectation_failed');
    const session = await openSession(t, port);
    const { status, body } = await ask(session, { expect: 'the-unexpected' });
    assert.equal(status, 417);
    assert.equal(JSON.parse(body).code, 'expectation_failed');
    assert.deepEqual(handled, []);
  });

  test('100-continue is met', async (t) => {
    const { port, handled } = await start(t);
    const client = await openTls(port);
    client.socket.write(post('/', 5, 'Expect: 100-continue\r\n'));
    await client.until('100 Continue');
    client.socket.write('hello');
    await client.until('200 OK');
    assert.deepEqual(handled, ['POST / hello']);
  });

  test('CONNECT: 405', async (t) => {
    const { port, handled } = await start(t);
    for (const more of ['', 'Content-Length: 5\r\n']) {
      const client = await openTls(port);
      client.socket.write(`CONNECT other.example:443 HTTP/1.1\r\nHost: other.example\r\n${more}\r\n`);
      assertProblem(await client.closed, 'method_not_allowed');
    }
    const session = await openSession(t, port);
    const { status, body } = await ask(session, { ':method': 'CONNECT', ':authority': 'other.example:443', ':path': undefined });
    assert.equal(status, 405);
    assert.equal(JSON.parse(body).code, 'method_not_allowed');
    assert.deepEqual(handled, []);
  });

  test('Upgrade is passed over, and the answer ends the connection', async (t) => {
    const { port, handled } = await start(t);
    const client = await openTls(port);
    client.socket.write(get('/', 'Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c, websocket\r\nHTTP2-Settings: AAA\r\n'));
    assert.match(await client.closed, /200 OK[^]*connection: close[^]*GET \/$/i);
    assert.deepEqual(handled, ['GET /']);
  });

  test('nothing is handled after a request that was to be the last', async (t) => {
    const { port, handled } = await start(t);
    const client = await openTls(port);
    client.socket.write(get('/last', 'Connection: close\r\n') + get('/more'));
    assert.match(await client.closed, /GET \/last$/);
    assert.deepEqual(handled, ['GET /last']);
  });

  test('pipelined requests are answered in order', async (t) => {
    const { port } = await start(t, {}, (request, response) => {
      setTimeout(() => response.end(`<${request.url}>`), request.url === '/1' ? 50 : 0);
    });
    const client = await openTls(port);
    client.socket.write(get('/1') + get('/2') + get('/3'));
    const text = await client.until('</3>');
    assert.deepEqual(text.match(/<.*?>/g), ['</1>', '</2>', '</3>']);
  });

  test('a refusal is never taken for the answer to another request', async (t) => {
    const { port } = await start(t, {}, (request, response) => {
      setTimeout(() => response.end(`<${request.url}>`), 50);
    });
    const client = await openTls(port);
    client.socket.write(get('/1') + get('/2') + 'nonsense\r\n\r\n');
    const [one, two, three, ...more] = (await client.closed).split(/(?=HTTP\/1.1)/);
    assert.match(one ?? '', /<\/1>/);
    assert.match(two ?? '', /<\/2>/);
    assertProblem(three ?? '', 'request_malformed');
    assert.deepEqual(more, []);
  });

  test('a body that goes wrong after the answer gets no second answer', async (t) => {
    const { port } = await start(t, {}, (_, response) => {
      response.end('too early');
    });
    const client = await openTls(port);
    client.socket.write(`POST / HTTP/1.1\r\nHost: a\r\n${chunked}\r\n`);
    await client.until('too early');
    client.socket.write('nonsense\r\n');
    assert.equal((await client.closed).match(/HTTP\/1\.1/g)?.length, 1);
  });
});

describe('time, HTTP/1.1', () => {
  /** Only the bound under test is short, so only it can end the connection. */
  const short = (times: Partial<WireTimes>) => ({ times });

  test('a peer that says nothing has until handshakeMs', async (t) => {
    const { port } = await start(t, short({ handshakeMs: 150 }));
    assert.equal(await (await openTcp(port)).closed, '');
  });

  test('a handshake that trickles has no longer', async (t) => {
    const { port, wire } = await start(t, short({ handshakeMs: 200 }));
    const client = await openTcp(port);
    trickle(client.socket, [0x16, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3, ...Array<number>(500).fill(7)]);
    await client.closed;
    await until(() => wire.connections() === 0);
  });

  test('after the handshake, headersMs for headers: 408, though nothing came', async (t) => {
    const { port } = await start(t, short({ headersMs: 150 }));
    assertProblem(await (await openTls(port)).closed, 'request_timeout');
  });

  test('headers that trickle have no longer', async (t) => {
    const { port, handled } = await start(t, short({ headersMs: 200 }));
    const client = await openTls(port);
    client.socket.write('GET / HTTP/1.1\r\nHost: a\r\nX: ');
    trickle(client.socket, forever(0x61));
    assertProblem(await client.closed, 'request_timeout');
    assert.deepEqual(handled, []);
  });

  test('nor have those of a further request', async (t) => {
    const { port } = await start(t, short({ headersMs: 200 }));
    const client = await openTls(port);
    client.socket.write(get('/first'));
    const first = await client.until('GET /first');
    client.socket.write('GET / HTTP/1.1\r\nX: ');
    trickle(client.socket, forever(0x61));
    assertProblem((await client.closed).slice(first.length), 'request_timeout');
  });

  test('a request with its body has requestMs: 408, and what comes later of it is not handled after all', async (t) => {
    const { port, handled } = await start(t, short({ headersMs: 250, requestMs: 250, lingerMs: 500 }));
    const client = await openTls(port);
    client.socket.write(post('/', 5) + 'hell');
    await client.until('408');
    client.socket.write('o' + get('/more'));
    assertProblem(await client.closed, 'request_timeout');
    await wait(50);
    assert.deepEqual(handled, []);
  });

  test('a body that trickles has no longer, also where it has been answered', async (t) => {
    const { port, wire } = await start(t, short({ headersMs: 250, requestMs: 250 }), (_, response) => {
      response.end('early');
    });
    const client = await openTls(port);
    client.socket.write(post('/', 50_000));
    trickle(client.socket, forever(0x61));
    assert.equal((await client.closed).match(/HTTP\/1\.1/g)?.length, 1);
    await until(() => wire.connections() === 0);
  });

  test('Fastify hears of a body that stopped, and all is well', async (t) => {
    const wire = makeTestWire({ times: { headersMs: 200, requestMs: 200, idleMs: 60_000, checkMs: 20, lingerMs: 200 } });
    let handled = 0;
    const app = fastify({ serverFactory: wire.serverFactory });
    app.post('/', async () => {
      handled++;
    });
    await app.ready();
    const { port } = await wire.listen('127.0.0.1', 0);
    t.after(async () => {
      await wire.close(0);
      await app.close();
    });
    const client = await openTls(port);
    client.socket.write(post('/', 9, 'Content-Type: application/json\r\n') + '{"a"');
    assertProblem(await client.closed, 'request_timeout');
    const session = await openSession(t, port);
    const stream = session.request({ ':method': 'POST', ':path': '/', 'content-type': 'application/json' });
    stream.write('{"a"');
    const [headers] = await once(stream, 'response');
    assert.equal(headers[':status'], 408);
    stream.resume().on('error', () => {});
    await once(stream, 'close');
    assert.equal(handled, 0);
  });

  test('an idle connection has idleMs, after its last request', async (t) => {
    const { port } = await start(t, short({ idleMs: 200 }));
    const client = await openTls(port);
    client.socket.write(get('/'));
    assert.match(await client.closed, /GET \/$/);
  });

  test('one that asks now and then is not idle, though no check ever sees its request under way', async (t) => {
    const { port } = await start(t, { times: { idleMs: 300, headersMs: 100, checkMs: 100 } });
    const client = await openTls(port);
    let asked = 0;
    client.socket.on('close', () => clearInterval(asking));
    const asking = setInterval(() => {
      asked += 1;
      client.socket.write(get(`/${asked}.`));
    }, 35);
    t.after(() => clearInterval(asking));
    await client.until('GET /30.'); // well over a second
  });

  test('nor do blank lines keep it open', async (t) => {
    const { port } = await start(t, short({ idleMs: 300, headersMs: 200 }));
    const client = await openTls(port);
    client.socket.write(get('/'));
    const dripping = setInterval(() => client.socket.write('\r\n'), 20);
    t.after(() => clearInterval(dripping));
    assert.match(await client.closed, /GET \/$/);
  });

  for (const [what, handler] of Object.entries({
    'at once': (_, response) => {
      response.end(Buffer.alloc(30_000_000));
    },
    'in parts': (_, response) => {
      parts(30_000_000).pipe(response);
    },
  } satisfies Record<string, RequestListener>)) {
    test(`a peer that does not read its answer, given ${what}, is cut`, async (t) => {
      const { port, wire } = await start(t, short({ answerMs: what === 'at once' ? 1 : 200 }), handler); // for each 64 KiB of what waits
      const client = await openTls(port);
      client.socket.pause();
      client.socket.write(get('/'));
      await until(() => wire.connections() === 0);
      client.socket.destroy();
    });
  }

  test('one that reads slowly but steadily gets all of it', async (t) => {
    const size = 10_000_000;
    const { port } = await start(t, short({ answerMs: 200 }), (_, response) => {
      parts(size).pipe(response);
    });
    const client = await openTls(port);
    client.socket.removeAllListeners('data');
    client.socket.write(get('/'));
    let read = 0;
    for await (const chunk of client.socket) {
      read += chunk.length;
      if (read >= size) break;
      await wait(1);
    }
  });

  test('a refused plain-HTTP client that does not leave is closed', async (t) => {
    const { port, wire } = await start(t, short({ lingerMs: 100 }));
    const client = await openTcp(port);
    client.socket.allowHalfOpen = true;
    client.socket.write(get('/'));
    trickle(client.socket, forever(0x61));
    await until(() => wire.connections() === 1);
    await until(() => wire.connections() === 0);
  });
});

describe('time, HTTP/2', () => {
  const cases: { what: string; times: Partial<WireTimes>; send(socket: Socket): void }[] = [
    { what: 'no preface', times: { headersMs: 200 }, send() {} },
    { what: 'a preface that trickles', times: { headersMs: 200 }, send: (socket) => trickle(socket, preface, 50) },
    { what: 'SETTINGS and no stream', times: { headersMs: 200 }, send: (socket) => socket.write(preface) },
    {
      what: 'headers without an end',
      times: { headersMs: 200 },
      send: (socket) => socket.write(Buffer.concat([preface, frame(frames.headers, flags.endStream, 1, requestBlock())])),
    },
    {
      what: 'headers that go on and on',
      times: { headersMs: 200 },
      send(socket) {
        socket.write(
          Buffer.concat([
            preface,
            frame(frames.headers, flags.endStream, 1, requestBlock()),
            frame(frames.continuation, 0, 1, Buffer.alloc(200)).subarray(0, 9),
          ]),
        );
        trickle(socket, forever(0));
      },
    },
    {
      what: 'a later request whose headers trickle',
      times: { headersMs: 200 },
      send(socket) {
        socket.write(Buffer.concat([preface, frame(frames.headers, flags.endStream | flags.endHeaders, 1, requestBlock())]));
        setTimeout(() => {
          socket.write(frame(frames.headers, flags.endStream, 3, Buffer.concat([requestBlock(), Buffer.alloc(1_000)])).subarray(0, 9));
          trickle(socket, forever(0));
        }, 100);
      },
    },
    {
      what: 'no further request',
      times: { idleMs: 200 },
      send: (socket) =>
        socket.write(Buffer.concat([preface, frame(frames.headers, flags.endStream | flags.endHeaders, 1, requestBlock())])),
    },
    {
      what: 'nothing but PINGs',
      times: { headersMs: 200 },
      send(socket) {
        socket.write(Buffer.concat([preface, frame(frames.headers, flags.endStream | flags.endHeaders, 1, requestBlock())]));
        const timer = setInterval(() => socket.writable && socket.write(frame(frames.ping, 0, 0, Buffer.alloc(8))), 20);
        socket.once('close', () => clearInterval(timer));
      },
    },
  ];
  for (const { what, times, send } of cases) {
    test(`${what}: the session ends`, async (t) => {
      const { port, wire } = await start(t, { times });
      const client = await openRawH2(port);
      send(client.socket);
      await client.closed;
      await until(() => wire.connections() === 0);
    });
  }

  test('a body that trickles: 408 on its stream, others live on, and nothing is handled after all', async (t) => {
    const { port, handled } = await start(t, { times: { headersMs: 200, requestMs: 200 } });
    const session = await openSession(t, port);
    const stream = session.request({ ':method': 'POST', ':path': '/slow' });
    const timer = setInterval(() => stream.writable && stream.write('x'), 10);
    stream.once('close', () => clearInterval(timer));
    stream.on('error', () => {});
    const [headers] = await once(stream, 'response');
    assert.equal(headers[':status'], 408);
    assert.equal(headers['content-type'], 'application/problem+json; charset=utf-8');
    stream.end('the end');
    stream.resume();
    await once(stream, 'close');
    assert.equal((await ask(session, { ':path': '/other' })).status, 200);
    assert.deepEqual(handled, ['GET /other']);
  });

  for (const [what, cut] of Object.entries({
    'no error': (client) => client.socket.write(frame(frames.reset, 0, 1, Buffer.of(0, 0, 0, 0))),
    'a cancel': (client) => client.socket.write(frame(frames.reset, 0, 1, Buffer.of(0, 0, 0, 8))),
    'an end of the connection': (client) => client.socket.end(),
    'a reset of the connection': (client) => client.tcp.resetAndDestroy(),
  } satisfies Record<string, (client: Awaited<ReturnType<typeof openTls>>) => void>)) {
    test(`half a body, cut by ${what}, never passes for the whole`, async (t) => {
      const wire = makeTestWire();
      const app = fastify({ serverFactory: wire.serverFactory });
      const heard: unknown[] = [];
      app.addContentTypeParser('*', { parseAs: 'string' }, (_, body, done) => done(null, body));
      app.post('/', async ({ body }) => {
        heard.push(body);
      });
      app.addHook('onError', async (_, __, error) => {
        heard.push(error.code);
      });
      await app.ready();
      const { port } = await wire.listen('127.0.0.1', 0);
      t.after(async () => {
        await wire.close(0);
        await app.close();
      });

      const client = await openRawH2(port);
      const block = Buffer.concat([requestBlock('POST'), Buffer.from([0x0f, 0x10, 10, ...Buffer.from('text/plain')])]);
      client.socket.write(
        Buffer.concat([preface, frame(frames.headers, flags.endHeaders, 1, block), frame(frames.data, 0, 1, Buffer.from('amount=10'))]),
      );
      await wait(30);
      cut(client);
      await until(() => heard.length > 0);
      client.socket.destroy();
      await until(() => wire.connections() === 0);
      assert.deepEqual(heard, ['ECONNRESET']);
    });
  }

  test('a stream that was given up and that nobody reads is not answered', async (t) => {
    const { port, wire } = await start(t, { times: { headersMs: 200, requestMs: 200, idleMs: 400 } }, () => {});
    const client = await openRawH2(port);
    client.socket.write(
      Buffer.concat([
        preface,
        frame(frames.headers, flags.endHeaders, 1, requestBlock('POST')),
        frame(frames.data, 0, 1, Buffer.from('half')),
      ]),
    );
    await wait(30);
    client.socket.write(frame(frames.reset, 0, 1, Buffer.of(0, 0, 0, 0)));
    await client.closed;
    assert.doesNotMatch(client.text(), /request_timeout/);
    await until(() => wire.connections() === 0);
  });

  test('a stream that has its answer and never ends its body is closed', async (t) => {
    const { port } = await start(t, { times: { headersMs: 200, requestMs: 200 } }, (request, response) => {
      request.resume();
      response.end('early');
    });
    const session = await openSession(t, port);
    const stream = session.request({ ':method': 'POST' });
    stream.resume().on('error', () => {});
    await once(stream, 'close');
  });

  for (const [what, handler] of Object.entries({
    'an answer at once': (_, response) => {
      response.end(Buffer.alloc(100_000));
    },
    'an answer in parts': (_, response) => {
      response.write(Buffer.alloc(100_000));
    },
  } satisfies Record<string, RequestListener>)) {
    test(`a window that never opens, for ${what}: it ends`, async (t) => {
      const { port, wire } = await start(t, { times: { answerMs: 200, idleMs: 400 } }, handler);
      const client = await openRawH2(port);
      const noWindow = frame(frames.settings, 0, 0, Buffer.from([0, 4, 0, 0, 0, 0]));
      client.socket.write(Buffer.concat([preface, noWindow, frame(frames.headers, flags.endStream | flags.endHeaders, 1, requestBlock())]));
      await client.closed;
      await until(() => wire.connections() === 0);
    });
  }

  test('PINGs do not keep an answer alive that nobody takes', async (t) => {
    const { port } = await start(t, { times: { answerMs: 400 } }, (_, response) => {
      response.end('waiting');
    });
    const client = await openRawH2(port);
    const noWindow = frame(frames.settings, 0, 0, Buffer.from([0, 4, 0, 0, 0, 0]));
    client.socket.write(Buffer.concat([preface, noWindow, frame(frames.headers, flags.endStream | flags.endHeaders, 1, requestBlock())]));
    const pings = Buffer.concat(Array<Buffer>(400).fill(frame(frames.ping, 0, 0, Buffer.alloc(8))));
    const timer = setInterval(() => client.socket.write(pings), 10);
    t.after(() => clearInterval(timer));
    await client.until('\0\0\x04\x03\0\0\0\0\x01'); // RST_STREAM
  });

  test('a peer that does not read at all is cut', async (t) => {
    const { port, wire } = await start(t, { times: { answerMs: 200 } }, (_, response) => {
      parts(30_000_000).pipe(response);
    });
    const client = await openRawH2(port);
    const largestWindow = Buffer.from([0, 4, 0x7f, 0xff, 0xff, 0xff]);
    const larger = Buffer.from([0x7f, 0, 0, 0]);
    client.socket.pause();
    client.socket.write(
      Buffer.concat([
        preface,
        frame(frames.settings, 0, 0, largestWindow),
        frame(frames.windowUpdate, 0, 0, larger),
        frame(frames.headers, flags.endStream | flags.endHeaders, 1, requestBlock()),
      ]),
    );
    await until(() => wire.connections() === 0);
    client.socket.destroy();
  });
});

describe('HTTP/2 floods', () => {
  test('requests reset as fast as they are made end the session', async (t) => {
    const { port, wire } = await start(t);
    const client = await openRawH2(port);
    client.socket.write(preface);
    for (let id = 1; id < 2_000; id += 2)
      client.socket.write(
        Buffer.concat([
          frame(frames.headers, flags.endStream | flags.endHeaders, id, requestBlock()),
          frame(frames.reset, 0, id, Buffer.from([0, 0, 0, 8])),
        ]),
      );
    await client.closed;
    await until(() => wire.connections() === 0);
  });

  test('no more than 100 streams at once', async (t) => {
    let open = 0;
    const { port } = await start(t, {}, () => {
      open++;
    });
    const session = await openSession(t, port);
    assert.equal(session.remoteSettings.maxConcurrentStreams, 100);
    const client = await openRawH2(port);
    client.socket.write(preface);
    for (let id = 1; id < 241; id += 2) client.socket.write(frame(frames.headers, flags.endStream | flags.endHeaders, id, requestBlock()));
    await client.until(/\0\0\x04\x03/); // RST_STREAM: refused
    assert.equal(open, 100);
    client.socket.destroy();
  });

  for (const [what, bytes] of Object.entries({
    'a header block of endless frames': Buffer.concat([
      frame(frames.headers, 0, 1, requestBlock()),
      ...Array<Buffer>(200).fill(frame(frames.continuation, 0, 1)),
    ]),
    'request after request that is none': Buffer.concat(
      Array.from({ length: 150 }, (_, at) =>
        frame(
          frames.headers,
          flags.endStream | flags.endHeaders,
          2 * at + 1,
          Buffer.concat([requestBlock(), Buffer.of(0, 1, 0x58, 1, 0x79)]),
        ),
      ),
    ), // `X`, in upper case
    'a header block that does not decode': frame(frames.headers, flags.endStream | flags.endHeaders, 1, Buffer.alloc(20, 0xff)),
    'a frame too large': frame(frames.data, 0, 1, Buffer.alloc(20_000)),
  })) {
    test(`${what} end the session`, async (t) => {
      const { port, wire, handled } = await start(t);
      const client = await openRawH2(port);
      client.socket.write(Buffer.concat([preface, bytes]));
      await client.closed;
      await until(() => wire.connections() === 0);
      assert.deepEqual(handled, []);
    });
  }
});

describe('bounds on connections', () => {
  const asked = async (port: number, path: string, localAddress = '127.0.0.1') => {
    const client = await openTls(port, { localAddress });
    client.socket.write(get(path));
    await client.until(`GET ${path}`);
    return client;
  };

  test('at the bound the one longest idle is closed and the newcomer is served', async (t) => {
    const { port, wire } = await start(t, { maxConnections: 3 });
    const clients = [await asked(port, '/0'), await asked(port, '/1', '127.0.0.2'), await asked(port, '/2', '127.0.0.3')];
    clients[0]?.socket.write(get('/again'));
    await clients[0]?.until('GET /again');
    await asked(port, '/3');
    await clients[1]?.closed;
    assert.equal(wire.connections(), 3);
    await asked(port, '/4');
    await clients[2]?.closed;
    assert.ok(!clients[0]?.socket.destroyed);
    assert.equal(wire.connections(), 3);
  });

  test('a connection at work is not idle, over HTTP/1.1 and HTTP/2', async (t) => {
    const { port } = await start(t, { maxConnections: 3 }, (request, response) => {
      if (request.url !== '/slow') response.end(`GET ${request.url}`);
    });
    const client = await openTls(port);
    client.socket.write(get('/slow'));
    const session = await openSession(t, port);
    session.request({ ':path': '/slow' }).on('error', () => {});
    const idle = await asked(port, '/idle');
    await asked(port, '/new');
    await idle.closed;
    await asked(port, '/newer');
    assert.ok(!client.socket.destroyed && !session.destroyed);
  });

  test('where all are at work, the least recently active goes', async (t) => {
    const { port } = await start(t, { maxConnections: 2 }, (request, response) => {
      if (request.url !== '/slow') response.end(`GET ${request.url}`);
      else response.write('working');
    });
    const clients = [await openTls(port), await openTls(port)];
    for (const { socket, until } of clients) {
      socket.write(get('/slow'));
      await until('working');
    }
    await asked(port, '/new');
    await clients[0]?.closed;
    assert.ok(!clients[1]?.socket.destroyed);
  });

  test('idle counts from the end of the last answer', async (t) => {
    const waiting: (() => void)[] = [];
    const { port } = await start(t, { maxConnections: 2 }, (request, response) => {
      if (request.url === '/long') waiting.push(() => response.end('GET /long'));
      else response.end(`GET ${request.url}`);
    });
    const long = await openTls(port);
    long.socket.write(get('/long'));
    const brief = await asked(port, '/brief');
    await wait(100);
    waiting[0]?.();
    await long.until('GET /long');
    await wait(100); // the check sees that it is idle now
    await asked(port, '/new');
    await brief.closed;
    assert.ok(!long.socket.destroyed);
  });

  test('an address has its own bound, that of others untouched', async (t) => {
    const { port } = await start(t, { maxConnectionsPerAddress: 2 });
    const other = await asked(port, '/other', '127.0.0.2');
    const first = await asked(port, '/1');
    const second = await asked(port, '/2');
    await asked(port, '/3');
    await first.closed;
    assert.ok(!other.socket.destroyed && !second.socket.destroyed);
  });

  test('a declared proxy has none', async (t) => {
    const { port, wire } = await start(t, { maxConnectionsPerAddress: 2, isProxy: (address) => address === '127.0.0.2' });
    for (const path of ['/1', '/2', '/3', '/4']) await asked(port, path, '127.0.0.2');
    assert.equal(wire.connections(), 4);
  });

  test('connections that never say a word make room too', async (t) => {
    const { port, wire } = await start(t, { maxConnections: 20 });
    for (let count = 0; count < 100; count++) await openTcp(port, `127.0.0.${1 + (count % 50)}`);
    await asked(port, '/served');
    assert.equal(wire.connections(), 20);
  });
});

describe('peers that break off', () => {
  test('a reset at any moment harms nobody and leaves nothing behind', async (t) => {
    const { port, wire } = await start(t);
    for (const bytes of ['', Buffer.from([0x16]), Buffer.from([0x16, 3, 1, 0, 200, 1]), 'G', get('/'), Buffer.alloc(1_000, 0x16)]) {
      const client = await openTcp(port);
      if (bytes.length > 0) client.socket.write(bytes);
      await wait(5);
      client.socket.resetAndDestroy();
    }
    for (const bytes of ['', 'GET', get('/'), post('/', 50) + 'some', get('/') + get('/'), 'nonsense\r\n\r\n']) {
      const client = await openTls(port);
      if (bytes.length > 0) client.socket.write(bytes);
      await wait(5);
      client.tcp.resetAndDestroy();
    }
    for (const bytes of [
      Buffer.alloc(0),
      preface.subarray(0, 10),
      preface,
      Buffer.concat([preface, frame(frames.headers, flags.endHeaders, 1, requestBlock('POST'))]),
    ]) {
      const client = await openRawH2(port);
      if (bytes.length > 0) client.socket.write(bytes);
      await wait(5);
      client.tcp.resetAndDestroy();
    }
    (await openTcp(port)).socket.end();
    (await openTls(port)).socket.end();
    (await openRawH2(port)).socket.end();
    await until(() => wire.connections() === 0);
    const client = await openTls(port);
    client.socket.write(get('/alive'));
    await client.until('GET /alive');
  });

  test('TLS records that do not decrypt end the connection', async (t) => {
    const { port, wire } = await start(t);
    const raw = await openTcp(port);
    const socket = tls.connect({ socket: raw.socket, rejectUnauthorized: false }).on('error', () => {});
    await once(socket, 'secureConnect');
    raw.socket.write(Buffer.from([0x17, 3, 3, 0, 20, ...Array<number>(20).fill(9)]));
    await until(() => wire.connections() === 0);
  });
});

describe('the end', () => {
  const slow: RequestListener = (request, response) => {
    setTimeout(() => response.end(`GET ${request.url}`), 100);
  };

  test('while draining, each answer ends its connection and new ones are taken', async (t) => {
    const { port, wire } = await start(t, {}, slow);
    const early = await openTls(port);
    early.socket.write(get('/early'));
    const session = await openSession(t, port);
    const goaway = once(session, 'goaway');
    await wait(20);
    wire.drain();
    assert.match(await early.closed, /connection: close[^]*GET \/early/i);
    assert.equal((await goaway)[0], http2.constants.NGHTTP2_NO_ERROR);
    const late = await openTls(port);
    late.socket.write(get('/late'));
    assert.match(await late.closed, /connection: close[^]*GET \/late/i);
    const lateSession = await openSession(t, port);
    const lateGoaway = once(lateSession, 'goaway');
    assert.equal((await ask(lateSession, { ':path': '/late' })).body, 'GET /late');
    await lateGoaway;
    await until(() => wire.connections() === 0); // also where the client does nothing about it
  });

  test('an answer that was half out when draining began does not cost the next request its own', async (t) => {
    const begun = Promise.withResolvers<ServerResponse>();
    const { wire, port } = await start(t, {}, ({ url }, response) => {
      if (url !== '/slow') return void response.end('the next');
      response.writeHead(200, { 'content-length': 8 });
      response.write('half');
      begun.resolve(response);
    });
    const client = await openTls(port);
    client.socket.write(get('/slow'));
    const response = await begun.promise;
    await client.until('half');
    wire.drain();
    response.end('half');
    await client.until('halfhalf');
    client.socket.write(get('/next'));
    assert.match(await client.until('the next'), /HTTP\/1\.1 200[^]*HTTP\/1\.1 200[^]*connection: close/i);
  });

  test('pipelined requests that came while draining are all answered', async (t) => {
    const { port, wire } = await start(t, {}, slow);
    const client = await openTls(port);
    wire.drain();
    client.socket.write(get('/1') + get('/2') + get('/3'));
    const text = await client.closed;
    assert.deepEqual(text.match(/GET \/\d/g), ['GET /1', 'GET /2', 'GET /3']);
    assert.equal(text.match(/connection: close/gi)?.length, 1);
  });

  test('an answer whose headers are out when draining begins says no more that it is the last: the next request is answered', async (t) => {
    const { port, wire } = await start(t, {}, (request, response) => {
      response.end(`GET ${request.url}`);
      if (request.url === '/early') wire.drain(); // its last byte is not yet with the kernel
    });
    const client = await openTls(port);
    client.socket.write(get('/early'));
    assert.match(await client.until('GET /early'), /connection: keep-alive/i);
    client.socket.write(get('/next'));
    assert.match(await client.closed, /connection: close[^]*GET \/next/i);
  });

  test('close() waits for what is in flight, over both protocols, and takes nothing new', async (t) => {
    const { port, wire } = await start(t, {}, slow);
    const client = await openTls(port);
    client.socket.write(get('/flying'));
    const session = await openSession(t, port);
    const answer = ask(session, { ':path': '/flying' });
    await wait(30);
    await wire.close(5_000);
    assert.match(await client.closed, /GET \/flying/);
    assert.equal((await answer).body, 'GET /flying');
    assert.equal(wire.connections(), 0);
    await assert.rejects(openTls(port), { code: 'ECONNREFUSED' });
  });

  test('a request that arrives on an idle connection just after close() is answered', async (t) => {
    const { port, wire } = await start(t, {}, slow);
    const client = await openTls(port);
    client.socket.write(get('/first'));
    await client.until('GET /first');
    const fresh = await openTls(port);
    const closed = wire.close(5_000);
    await wait(50);
    client.socket.write(get('/second'));
    fresh.socket.write(get('/third'));
    assert.match(await client.closed, /connection: close[^]*GET \/second/i);
    assert.match(await fresh.closed, /connection: close[^]*GET \/third/i);
    await closed;
  });

  test('a connection that waited to be accepted when close() came is served', async (t) => {
    const { port, wire } = await start(t, { clock: manualClock() }, slow); // on a slow machine too
    const clients = Array.from({ length: 8 }, (_, at) =>
      openTls(port).then((client) => {
        client.socket.write(get(`/${at}`));
        return client.closed;
      }),
    );
    await wire.close(5_000);
    for (const [at, text] of (await Promise.all(clients)).entries()) assert.match(text, new RegExp(`GET /${at}$`));
  });

  test('idle connections do not hold up the end', async (t) => {
    const { port, wire } = await start(t);
    const idle = await openTls(port);
    idle.socket.write(get('/'));
    await idle.until('GET /');
    const fresh = await openTls(port);
    const silent = await openTcp(port);
    const session = await openSession(t, port);
    await ask(session);
    await wire.close(600_000);
    await Promise.all([idle.closed, fresh.closed, silent.closed]);
    assert.equal(wire.connections(), 0);
  });

  test('what does not end within the grace is cut', async (t) => {
    const { port, wire } = await start(t, {}, () => {});
    const client = await openTls(port);
    client.socket.write(get('/for-ever'));
    const session = await openSession(t, port);
    session.request().on('error', () => {});
    await wait(30);
    await wire.close(400);
    await client.closed;
    assert.equal(wire.connections(), 0);
  });

  test('under load, no request is cut', async (t) => {
    for (let round = 0; round < 3; round++) {
      const { port, wire } = await start(t, { times: { lingerMs: 1_000 } });
      let answered = 0;
      let closing = false;
      const cut: unknown[] = [];
      const overOne = Array.from({ length: 8 }, async (_, at) => {
        const agent = new https.Agent({ keepAlive: at < 6, maxSockets: 1, rejectUnauthorized: false });
        for (;;) {
          const outcome = await askOne(agent, port);
          if (outcome === 'not sent' && closing) return agent.destroy();
          if (outcome === 'answered') answered++;
          else return void cut.push(outcome);
        }
      });
      const overTwo = Array.from({ length: 3 }, async () => {
        for (;;) {
          const session = http2.connect(`https://127.0.0.1:${port}`, { rejectUnauthorized: false }).on('error', () => {});
          const isOpen = await Promise.race([
            once(session, 'connect').then(
              () => true,
              () => false,
            ),
            once(session, 'close').then(() => false),
          ]);
          if (!isOpen) return void (closing || cut.push('no session'));
          while (!session.closed && !session.destroyed) {
            const { status, resetCode } = await ask(session);
            if (status === 200) answered++;
            else if (resetCode !== http2.constants.NGHTTP2_REFUSED_STREAM) cut.push({ status, resetCode });
          }
        }
      });
      await until(() => answered > 50);
      closing = true;
      await wire.close(5_000);
      await Promise.all([...overOne, ...overTwo]);
      assert.deepEqual(cut, []);
    }
  });
});

/** `not sent`: there was no TLS session that the request could have gone out on. */
function askOne(agent: https.Agent, port: number): Promise<'answered' | 'not sent' | Error> {
  return new Promise((resolve) => {
    let isSecure = false;
    const request = https.get({ host: '127.0.0.1', port, agent }, (response) => {
      response
        .resume()
        .once('end', () => resolve('answered'))
        .once('error', resolve); // an answer cut short is an error
    });
    request.once('socket', (socket) =>
      socket.once('secureConnect', () => {
        isSecure = true;
      }),
    );
    request.once('error', (error) => resolve(isSecure || request.reusedSocket ? error : 'not sent'));
  });
}
