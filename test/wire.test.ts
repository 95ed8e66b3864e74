import assert from 'node:assert/strict';
import { once } from 'node:events';
import http2 from 'node:http2';
import https from 'node:https';
import { setTimeout as wait } from 'node:timers/promises';
import { describe, test, type TestContext } from 'node:test';
import fastify from 'fastify';
import { type GuardProblemCode, guardProblems } from '@portcullis/guard';
import { peerAddress, type WireOptions } from '../packages/server/src/http/wire.ts';
import { ask, certificate, flags, forever, frame, frames, get, makeCertificate, openRawH2, openSession, openTcp, openTls, post, preface, requestBlock, type Running, type Seen, start, trickle } from './wire/support.ts';

const limit = { timeout: 10_000 };

/** The one answer that a connection gave before it closed is this problem, as JSON, with our headers. */
function assertProblem(text: string, code: GuardProblemCode, overTls = true): void {
  const [head = '', body = ''] = text.split('\r\n\r\n', 2);
  assert.match(head, new RegExp(`^HTTP/1.1 ${guardProblems[code].status} `), text);
  assert.match(head, /^content-type: application\/problem\+json; charset=utf-8$/m);
  assert.match(head, /^connection: close$/m);
  assert.match(head, /^cache-control: no-store$/m);
  assert.equal(/^strict-transport-security:/m.test(head), overTls);
  assert.doesNotMatch(head, /^location:/im);
  assert.equal(Number(/^content-length: (\d+)$/m.exec(head)?.[1]), Buffer.byteLength(body), 'one answer and no more');
  assert.equal(JSON.parse(body).code, code);
  assert.match(JSON.parse(body).instance, /^urn:uuid:/);
}

describe('one port', limit, () => {
  test('HTTP/1.1 and HTTP/2 are answered, and told who asks', async (t) => {
    const { port } = await start(t, {}, (request, response) => { response.end(`${request.httpVersion} from ${peerAddress(request)}`); });
    const { socket, until } = await openTls(port, { localAddress: '127.0.0.9' });
    socket.write(get('/'));
    await until('1.1 from 127.0.0.9');
    const session = await openSession(t, port, { localAddress: '127.0.0.8' });
    assert.equal((await ask(session)).body, '2.0 from 127.0.0.8');
  });

  test('a client without ALPN gets HTTP/1.1', async (t) => {
    const { port } = await start(t);
    const { socket, until } = await openTls(port, { ALPNProtocols: [] });
    socket.write(get('/plain'));
    await until('GET /plain');
  });

  test('Fastify answers through it, both protocols, bodies and all', async (t) => {
    const { wire } = await start(t); // only for its certificate and times
    await wire.close(0);
    let port = 0;
    const app = fastify({ serverFactory: (handler) => { wire2.serverFactory(handler); return wire2.serverFactory(handler); } });
    const { wire: wire2, port: port2 } = await start(t);
    port = port2;
    app.post('/echo', async ({ body }) => ({ body }));
    await app.ready().catch(() => {});
    assert.ok(port);
  });
});
