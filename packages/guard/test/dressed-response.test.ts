import assert from 'node:assert/strict';
import { once } from 'node:events';
import { createServer, get, type RequestListener } from 'node:http';
import type { AddressInfo } from 'node:net';
import { suite, test, type TestContext } from 'node:test';
import Fastify from 'fastify';
import { attire, DressedResponse } from '../src/dressed-response.ts';
import { accessTokens, fixedKeys, guard, manualClock, memoryCounters, open, Problem } from '../src/index.ts';

const worn = attire({ 'cache-control': 'no-store', 'x-content-type-options': 'nosniff' });

suite('an answer that wears its headers', () => {
  const ways: Record<string, (response: DressedResponse) => void> = {
    'by an object': (response) => response.writeHead(200, { 'cache-control': 'max-age=60', 'content-length': 2 }).end('ok'),
    'in other letters': (response) => response.writeHead(200, { 'Cache-Control': 'max-age=60' }).end('ok'),
    'by a list of names and values': (response) => response.writeHead(200, ['Cache-Control', 'max-age=60', 'A', 'b']).end('ok'),
    'by a list of pairs': (response) => response.writeHead(200, [['Cache-Control', 'max-age=60']] as unknown as string[]).end('ok'),
    'one by one': (response) => response.setHeader('Cache-Control', 'max-age=60').end('ok'),
    'one by one, and by an object': (response) => response.setHeader('A', 'b').writeHead(200, { 'cache-control': 'max-age=60' }).end('ok'),
    'told to it later': (response) => {
      response.header('cache-control', 'no-cache');
      response.writeHead(200, { 'cache-control': 'max-age=60' }).end('ok');
    },
  };
  for (const [how, answer] of Object.entries(ways)) {
    test(`what a handler sets stands in place of it, and alone: ${how}`, async (t) => {
      const said = await ask(t, (_, response) => {
        const dressed = response as DressedResponse; // as the server was told
        dressed.wear(worn);
        dressed.header('x-request-id', 'one');
        dressed.header('x-request-id', 'two');
        answer(dressed);
      });
      assert.deepEqual(said.of('cache-control'), ['max-age=60']);
      assert.deepEqual(said.of('x-content-type-options'), ['nosniff']);
      assert.deepEqual(said.of('x-request-id'), ['two']);
    });
  }

  test('what nobody replaces is there, with what was told in place of what it wears', async (t) => {
    const said = await ask(t, (_, response) => {
      const dressed = response as DressedResponse;
      dressed.wear(worn);
      dressed.header('cache-control', 'no-cache');
      dressed.writeHead(204).end();
    });
    assert.deepEqual(said.of('cache-control'), ['no-cache']);
    assert.deepEqual(said.of('x-content-type-options'), ['nosniff']);
  });

  test('a value that is another name is no name', async (t) => {
    const said = await ask(t, (_, response) => {
      const dressed = response as DressedResponse;
      dressed.header('a', 'b');
      dressed.header('b', 'a');
      dressed.writeHead(200, { B: 'c' }).end('ok');
    });
    assert.deepEqual(said.of('a'), ['b']);
    assert.deepEqual(said.of('b'), ['c']);
  });

  test('names of every object that has properties by nature are names like others', async (t) => {
    const said = await ask(t, (_, response) => {
      (response as DressedResponse).wear(worn);
      response.writeHead(200, { constructor: 'a', valueOf: 'b' }).end('ok');
    });
    assert.deepEqual(said.of('cache-control'), ['no-store']);
    assert.deepEqual(said.of('constructor'), ['a']);
  });

  test('with the guard it says the same as any other answer, but for the order', async (t) => {
    const plain = await guarded(t, {});
    const dressed = await guarded(t, { ServerResponse: DressedResponse });
    for (const path of ['/open', '/own', '/nothing', '/fails', '/busy', '/bad']) {
      const [a, b] = [await plain(path), await dressed(path)];
      assert.deepEqual(b, a, path);
      assert.ok(
        a.some(([name, value]) => name === 'cache-control' && value === (path === '/own' ? 'max-age=60' : 'no-store')),
        path,
      );
    }
    const of = async (path: string, header: string) => (await dressed(path)).filter(([name]) => name === header).map(([, value]) => value);
    assert.deepEqual(await of('/busy', 'retry-after'), ['1'], "the problem's own word stands");
    assert.deepEqual(await of('/bad', 'retry-after'), ['7'], 'what it has no word for is left');
    assert.match((await of('/bad', 'www-authenticate')).join(), /^Bearer realm="portcullis", error="invalid_token", [^,]*$/);
  });
});

async function ask(t: TestContext, listener: RequestListener) {
  const server = createServer({ ServerResponse: DressedResponse }, listener).listen(0, '127.0.0.1');
  t.after(() => server.close());
  await once(server, 'listening');
  const [response] = await once(get({ port: (server.address() as AddressInfo).port, agent: false }), 'response');
  response.resume();
  const raw: string[] = response.rawHeaders;
  return { of: (name: string) => raw.filter((_, i) => i % 2 === 1 && raw[i - 1]?.toLowerCase() === name) };
}

/** Gives the headers of an answer, by name, without those that are never twice the same. */
async function guarded(t: TestContext, http: object): Promise<(path: string) => Promise<[string, string][]>> {
  const clock = manualClock();
  const app = Fastify({ http });
  await app.register(guard, {
    tokens: accessTokens({ issuer: 'https://a', audience: 'b', keys: await fixedKeys({ keys: [] }), clock }),
    revocations: { isRevoked: () => false },
    counters: memoryCounters({ clock, secret: Buffer.alloc(32) }),
    clock,
    corsOrigins: ['https://app.example.com'],
  });
  const config = { access: open() };
  app.get('/open', { config }, () => ({ ok: true }));
  app.get('/own', { config }, (_, reply) => reply.header('Cache-Control', 'max-age=60').send('own'));
  app.get('/busy', { config }, (_, reply) => {
    reply.header('retry-after', '99999');
    throw new Problem('unavailable', undefined, { retryAfterS: 1 });
  });
  app.get('/bad', { config }, (_, reply) => {
    reply.header('www-authenticate', 'Basic realm="x"').header('retry-after', '7');
    throw new Problem('token_invalid');
  });
  app.get('/fails', { config }, (_, reply) => {
    reply.header('cache-control', 'max-age=60');
    throw new Error('a fault');
  });
  await app.listen({ port: 0, host: '127.0.0.1' });
  t.after(() => app.close());
  const { port } = app.server.address() as AddressInfo;
  return async (path) => {
    const [response] = await once(get({ port, path, agent: false, headers: { origin: 'https://app.example.com' } }), 'response');
    response.resume();
    const raw: string[] = response.rawHeaders;
    const pairs = raw.flatMap((name, i): [string, string][] => (i % 2 === 0 ? [[name.toLowerCase(), raw[i + 1]!]] : []));
    return pairs.filter(([name]) => !['date', 'x-request-id', 'content-length'].includes(name)).toSorted();
  };
}
