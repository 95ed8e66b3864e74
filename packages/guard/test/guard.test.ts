import assert from 'node:assert/strict';
import { once } from 'node:events';
import { type AddressInfo, connect } from 'node:net';
import { test, type TestContext } from 'node:test';
import Fastify, { type FastifyInstance, type InjectOptions, type RouteOptions } from 'fastify';
import { exportJWK, generateKeyPair, SignJWT } from 'jose';
import {
  type Access,
  accessTokens,
  type Counters,
  fixedKeys,
  guard,
  type GuardOptions,
  guardProblems,
  manualClock,
  memoryCounters,
  open,
  Problem,
  problemBody,
  type Refusal,
  refreshToken,
  type Revocations,
  signedIn,
  signedInIfSent,
} from '../src/index.ts';

// The guard as somebody's own product: on a bare Fastify app, without the server.

const issuer = 'https://issuer.example';
const pair = await generateKeyPair('EdDSA', { extractable: true });
const keys = await fixedKeys({ keys: [{ ...(await exportJWK(pair.publicKey)), kid: 'k1', alg: 'EdDSA' }] });

type Add = (app: FastifyInstance, ran: string[]) => void;

async function guarded(t: TestContext, add: Add, options: Partial<GuardOptions> = {}) {
  const clock = manualClock();
  const refusals: Refusal[] = [];
  const revoked = new Set<string>();
  const ran: string[] = [];
  const app = Fastify();
  t.after(() => app.close());
  await app.register(guard, {
    tokens: accessTokens({ issuer, audience: 'notes', keys, clock }),
    clock,
    revocations: { isRevoked: (id) => revoked.has(id) },
    counters: memoryCounters({ clock, secret: Buffer.alloc(32) }),
    onRefused: (refusal) => refusals.push(refusal),
    ...options,
  });
  add(app, ran);
  await app.ready();

  const mint = (claims: Record<string, unknown> = {}): Promise<string> => {
    const nowS = clock.now() / 1_000;
    return new SignJWT({
      iss: issuer,
      aud: 'notes',
      sub: 'usr_1',
      client_id: 'web',
      sid: 'ses_1',
      jti: 'tok_1',
      iat: nowS,
      exp: nowS + 900,
      username: 'ada',
      auth_time: nowS,
      ...claims,
    })
      .setProtectedHeader({ alg: 'EdDSA', typ: 'at+jwt', kid: 'k1' })
      .sign(pair.privateKey);
  };
  const ask = async (url: string, { token, ...more }: InjectOptions & { token?: string | undefined } = {}) => {
    const {
      statusCode: status,
      headers,
      body,
    } = await app.inject({ url, ...more, headers: { ...(token !== undefined && { authorization: `Bearer ${token}` }), ...more.headers } });
    return { status, headers, body, json: body.startsWith('{') ? JSON.parse(body) : undefined };
  };
  return { app, clock, refusals, revoked, ran, mint, ask };
}

/** A route that says when its handler ran. */
const route = (ran: string[], access: Access, more: Partial<RouteOptions> = {}, limits: string[] = []): RouteOptions => ({
  method: 'GET',
  url: '/notes',
  config: { access, limits },
  handler: (_, reply) => {
    ran.push('handler');
    reply.send({ ok: true });
  },
  ...more,
});

const one =
  (access: Access, limits: string[] = [], more: Partial<RouteOptions> = {}): Add =>
  (app, ran) => {
    app.route(route(ran, access, more, limits));
  };

test('an app that forgets a gate does not start', async (t) => {
  const starts = (add: Add): Promise<unknown> => guarded(t, add);
  await assert.rejects(
    starts((app) => {
      app.get('/notes', () => 'open to all');
    }),
    /GET \/notes says no access/,
  );
  await assert.rejects(
    starts((app) => {
      app.register(
        async (child) => {
          child.post('/notes', () => '');
        },
        { prefix: '/v1' },
      );
    }),
    /POST \/v1\/notes says no access/,
  );
  for (const access of [open(), signedInIfSent(), refreshToken()])
    await assert.rejects(starts(one(access, ['5 per minute by caller'])), /GET \/notes has a limit by caller, but anyone may call it/);
  await assert.rejects(starts(one(open(), ['5 per blink'])), /"5 per blink" cannot be read/);
  await assert.rejects(starts(one(open(), ['5 per minute', '5 per 60 seconds'])), /twice/);
  assert.throws(() => signedIn({ freshWithin: '10' }), /is not a duration/);
  await assert.rejects(guarded(t, one(open()), { defaultLimits: 'none' }), /cannot be read/);
  await assert.rejects(guarded(t, one(open()), { corsOrigins: ['*'] }), /not an exact origin/);
  await assert.rejects(guarded(t, one(open()), { trustedProxies: ['proxy'] }), /neither an address nor a CIDR block/);
  for (const ipv6Prefix of [31, 129, 64.5, NaN]) await assert.rejects(guarded(t, one(open()), { ipv6Prefix }), /from 32 to 128/);
});

test('a route that was there before the guard has no gate, so that app does not start either', async (t) => {
  const app = Fastify();
  t.after(() => app.close());
  const clock = manualClock();
  void app.register(guard, {
    tokens: accessTokens({ issuer, audience: 'notes', keys, clock }),
    revocations: { isRevoked: () => false },
    counters: memoryCounters({ clock, secret: Buffer.alloc(32) }),
  });
  app.get('/notes', { config: { access: signedIn() } }, () => 'without a gate'); // the register above was not awaited
  await assert.rejects(Promise.resolve(app.ready()), /before any route/);
});

test('the caller is who the token says; each refusal has its code, and its handler does not run', async (t) => {
  const { ask, mint, ran, clock, revoked, refusals } = await guarded(t, (app, seen) => {
    app.get('/me', { config: { access: signedIn() } }, ({ caller, callerIfSent }) => {
      seen.push('handler');
      return { caller, same: caller === callerIfSent };
    });
  });
  const token = await mint({ scope: 'a b' });
  const { status, json } = await ask('/me', { token });
  assert.deepEqual([status, json.same], [200, true]);
  assert.deepEqual(json.caller, {
    userId: 'usr_1',
    username: 'ada',
    sessionId: 'ses_1',
    tokenId: 'tok_1',
    clientId: 'web',
    scopes: ['a', 'b'],
    authenticatedAt: clock.now(),
    expiresAt: clock.now() + 900_000,
  });

  const expired = await mint({ exp: clock.now() / 1_000 });
  const refused: [code: string, headers: InjectOptions['headers']][] = [
    ['token_missing', {}],
    ['authorization_scheme', { authorization: `Basic ${token}` }],
    ['authorization_malformed', { authorization: `Bearer ${token} ${token}` }],
    ['access_token_required', { authorization: 'Bearer prt_x' }],
    ['token_invalid', { authorization: `Bearer ${token}x` }],
    ['token_expired', { authorization: `Bearer ${expired}` }],
  ];
  ran.length = 0;
  for (const [code, headers] of refused) {
    const answer = await ask('/me', { headers });
    assert.deepEqual([answer.status, answer.json.code], [401, code]);
    assert.match(String(answer.headers['www-authenticate']), /^Bearer realm=/);
  }
  revoked.add('ses_1');
  assert.equal((await ask('/me', { token })).json.code, 'token_revoked', 'also where the token was remembered');
  assert.equal((await ask('/me', { token: `${token}x` })).json.code, 'token_invalid', 'never said of a token that was changed');
  assert.deepEqual(ran, []);
  assert.deepEqual(
    refusals.map(({ code }) => code),
    [...refused.map(([code]) => code), 'token_revoked', 'token_invalid'],
    'each was told once',
  );
  assert.doesNotMatch(JSON.stringify(refusals), new RegExp(token.slice(-20)), 'without the token');
});

test('scopes: each one that the route names must be in the token', async (t) => {
  const { ask, mint, ran, refusals } = await guarded(t, one(signedIn({ scopes: ['notes:read', 'notes:write'] })));
  for (const scope of [
    undefined,
    '',
    'notes:read',
    'notes:write',
    'notes:readnotes:write',
    'NOTES:READ NOTES:WRITE',
    'notes:*',
    'notes:read notes:writer',
  ]) {
    const { status, json, headers } = await ask('/notes', { token: await mint({ scope }) });
    assert.deepEqual([status, json.code], [403, 'scope_missing'], String(scope));
    assert.match(String(headers['www-authenticate']), /error="insufficient_scope"/);
  }
  assert.deepEqual(ran, []);
  assert.equal(refusals[0]?.userId, 'usr_1', 'the security log knows who');
  assert.equal((await ask('/notes', { token: await mint({ scope: 'notes:write x notes:read' }) })).status, 200);
});

test('freshWithin: the login must be younger, to the millisecond, whatever the age of the token', async (t) => {
  const { ask, mint, clock, ran } = await guarded(t, one(signedIn({ freshWithin: '10 minutes' })), { authFailureLimits: '1 per minute' });
  const loginS = clock.now() / 1_000;
  clock.advance(599_999);
  assert.equal((await ask('/notes', { token: await mint({ auth_time: loginS }) })).status, 200);
  clock.advance(1);
  for (const time of ['first', 'second', 'third']) {
    const { status, json, headers } = await ask('/notes', { token: await mint({ auth_time: loginS }) });
    assert.deepEqual(
      [status, json.code],
      [401, 'authentication_stale'],
      `${time} time: to be asked to log in again is no failed authentication`,
    );
    assert.equal(
      headers['www-authenticate'],
      'Bearer realm="portcullis", error="insufficient_user_authentication", error_description="Recent authentication required", max_age=600',
    );
  }
  assert.deepEqual(ran, ['handler']);
});

test('an open route looks at no token, and has no caller', async (t) => {
  const { ask, refusals } = await guarded(t, (app) => {
    app.get('/open', { config: { access: open() } }, ({ callerIfSent }) => ({ who: callerIfSent ?? 'nobody' }));
    app.get('/wrong', { config: { access: open() } }, ({ caller }) => caller);
  });
  for (const headers of [{}, { authorization: 'Bearer x' }, { authorization: 'Basic x' }])
    assert.equal((await ask('/open', { headers })).json.who, 'nobody');
  assert.deepEqual([(await ask('/wrong')).status, refusals.length], [500, 1]);
  assert.match(String(refusals[0]?.error), /\/wrong is open: it has no caller/);
});

test('signedInIfSent: nobody may call, but a token that is sent must be good', async (t) => {
  const { ask, mint, revoked } = await guarded(t, (app) => {
    app.get('/notes', { config: { access: signedInIfSent() } }, ({ callerIfSent }) => ({ who: callerIfSent?.username ?? 'nobody' }));
  });
  const token = await mint();
  assert.equal((await ask('/notes')).json.who, 'nobody');
  assert.equal((await ask('/notes', { token })).json.who, 'ada');
  assert.equal((await ask('/notes')).json.who, 'nobody', 'and is forgotten after it');
  for (const authorization of ['Bearer', 'Basic x', `Bearer ${token}x`])
    assert.equal((await ask('/notes', { headers: { authorization } })).status, 401, authorization);
  revoked.add('ses_1');
  assert.equal((await ask('/notes', { token })).json.code, 'token_revoked');
});

test('the revocation is asked for each request, and only about tokens whose signature is good', async (t) => {
  const asked: string[] = [];
  const { ask, mint, clock } = await guarded(t, one(signedIn()), {
    revocations: {
      isRevoked: (id) => {
        asked.push(id);
        return false;
      },
    },
  });
  const token = await mint();
  for (const time of [1, 2, 3]) {
    assert.equal((await ask('/notes', { token })).status, 200);
    assert.deepEqual(asked, Array(time).fill('ses_1'));
  }
  for (const bad of [
    `${token}x`,
    await mint({ sid: 'ses_2', iss: 'https://other.example' }),
    await mint({ sid: 'ses_2', exp: clock.now() / 1_000 }),
  ])
    await ask('/notes', { token: bad });
  assert.equal(asked.length, 3);
});

/** The same ports, each answer in a promise. */
const later = {
  revocations: ({ isRevoked }: Revocations): Revocations => ({ isRevoked: async (id) => isRevoked(id) }),
  counters: (counters: Counters): Counters => ({
    peek: async (charges) => counters.peek(charges),
    take: async (charges) => counters.take(charges),
  }),
};

test('ports that answer in promises give the same answers', async (t) => {
  const story = async (options: (revocations: Revocations, counters: Counters) => Partial<GuardOptions>) => {
    const clock = manualClock();
    const revoked = new Set<string>();
    const { ask, mint, refusals } = await guarded(
      t,
      (app, ran) => {
        app.route(route(ran, signedIn(), {}, ['4 per minute by caller', '6 per minute']));
        app.route(route(ran, open(), { url: '/open' }, ['2 per minute']));
        app.route(route(ran, refreshToken(), { url: '/refresh' }, ['2 per minute']));
      },
      {
        authFailureLimits: '3 per minute',
        ...options({ isRevoked: (id) => revoked.has(id) }, memoryCounters({ clock, secret: Buffer.alloc(32) })),
      },
    );
    const [token, other] = await Promise.all([mint(), mint({ sub: 'usr_2', sid: 'ses_2' })]);
    const answers = [];
    for (const [url, sent] of [
      ['/notes', token],
      ['/notes', token],
      ['/open'],
      ['/open'],
      ['/open'],
      ['/refresh', 'prt_x'],
      ['/refresh', token],
      ['/refresh', 'prt_x'],
      ['/notes', token],
      ['/notes', token],
      ['/notes', token],
      ['/notes', other],
      ['/notes', `${token}x`],
      ['/notes', other],
      ['/notes'],
      ['/unknown'],
      ['/unknown'],
    ] as const) {
      if (answers.length === 11) revoked.add('ses_2');
      const { status, json, headers } = await ask(url, { token: sent });
      answers.push([
        url,
        status,
        json.code,
        headers['ratelimit'],
        headers['ratelimit-policy'],
        headers['retry-after'],
        headers['www-authenticate'],
      ]);
    }
    return { answers, refusals: refusals.map(({ code, reason, userId, route: path }) => ({ code, reason, userId, path })) };
  };
  const plain = await story((revocations, counters) => ({ revocations, counters }));
  assert.ok(new Set(plain.answers.map(([, , code]) => code)).size >= 5, 'the story has many ends');
  assert.deepEqual(
    await story((revocations, counters) => ({ revocations: later.revocations(revocations), counters: later.counters(counters) })),
    plain,
  );
});

test('when a port fails nothing passes: 503 where it says so, else 500 without a word of it', async (t) => {
  const accesses = { open: open(), 'signed in': signedIn(), 'signed in if sent': signedInIfSent(), 'refresh token': refreshToken() };
  const fails = {
    'at once': (error: Error) => {
      throw error;
    },
    'in a promise': async (error: Error) => {
      throw error;
    },
  };
  const clock = manualClock();
  const counters = memoryCounters({ clock, secret: Buffer.alloc(32) });
  const revocations: Revocations = { isRevoked: () => false };

  for (const [how, fail] of Object.entries(fails)) {
    for (const error of [new Problem('unavailable', 'the store', { retryAfterS: 2 }), new Error('connect ECONNREFUSED db.internal:5432')]) {
      const broken: Record<string, Partial<GuardOptions>> = {
        revocations: { revocations: { isRevoked: () => fail(error) } },
        take: { counters: { peek: (charges) => counters.peek(charges), take: () => fail(error) } },
        peek: { counters: { peek: () => fail(error), take: (charges) => counters.take(charges) } },
        tokens: { tokens: { read: () => fail(error) } },
      };
      for (const [port, options] of Object.entries(broken)) {
        for (const [kind, access] of Object.entries(accesses)) {
          const { ask, mint, ran, refusals } = await guarded(t, one(access), { revocations, counters, ...options });
          const token = kind === 'refresh token' ? 'prt_x' : await mint();
          const meets = port === 'take' || kind.startsWith('signed in') || (kind === 'refresh token' && port === 'peek');
          const where = `${port} fails ${how}, ${kind}`;
          for (const time of ['first', 'second']) {
            const { status, json, body, headers } = await ask('/notes', { token });
            if (!meets) {
              assert.equal(status, 200, where);
              continue;
            }
            assert.deepEqual(
              [status, json.code],
              error instanceof Problem ? [503, 'unavailable'] : [500, 'internal'],
              `${where}, ${time} time`,
            );
            assert.equal(headers['retry-after'], error instanceof Problem ? '2' : undefined, where);
            assert.doesNotMatch(body, /ECONNREFUSED|the store|db\.internal/, where);
            assert.equal(headers['cache-control'], 'no-store', where);
          }
          if (!meets) continue;
          assert.deepEqual(ran, [], `${where}: its handler ran`);
          assert.deepEqual(
            refusals.map((refusal) => refusal.error),
            error instanceof Problem ? [undefined, undefined] : [error, error],
            `${where}: told once each`,
          );
        }
      }
    }
  }
});

test("refusals that are made once tell each caller his own: id, limit, time left; also by tokens of one's own that only throw", async (t) => {
  for (const custom of [false, true]) {
    const own = manualClock();
    const tokens = accessTokens({ issuer, audience: 'notes', keys, clock: own });
    const { ask, clock, refusals, ran } = await guarded(
      t,
      (app, seen) => {
        for (const url of ['/a', '/b']) app.route(route(seen, signedIn(), { url }, [`2 per ${url === '/a' ? 60 : 90} seconds`]));
      },
      custom ? { tokens: { read: tokens.read } } : {},
    );
    const [here, there] = ['198.51.100.1', '198.51.100.2'];
    const told: unknown[] = [];
    for (const [url, remoteAddress, token] of [
      ['/a', here, 'x'],
      ['/a', there, undefined],
      ['/a', here, 'e30.e30.e30'],
      ['/a', here, 'x'],
      ['/b', there, 'x'],
      ['/b', there, 'x'],
      ['/b', there, 'x'],
      ['/a', here, undefined],
    ] as const) {
      const { status, json, headers } = await ask(url, { token, remoteAddress });
      assert.equal(json.instance, `urn:uuid:${String(headers['x-request-id'])}`);
      told.push([
        status,
        json.code,
        json['violated-policies']?.[0],
        headers['retry-after'],
        headers['www-authenticate']?.includes('error'),
      ]);
      clock.advance(10_000);
    }
    const invalid = [401, 'token_invalid', undefined, undefined, true];
    assert.deepEqual(told, [
      invalid,
      [401, 'token_missing', undefined, undefined, false],
      invalid,
      [429, 'rate_limited', 'a', '30', undefined],
      invalid,
      invalid,
      [429, 'rate_limited', 'b', '70', undefined],
      [401, 'token_missing', undefined, undefined, false],
    ]);
    assert.equal(new Set(refusals.map(({ requestId }) => requestId)).size, 8);
    assert.deepEqual(
      refusals.map(({ from, reason }) => `${from.address.slice(-1)} ${reason}`),
      [
        '1 form',
        '2 undefined',
        '1 no kid',
        '1 GET /a 2 per minute by ip',
        '2 form',
        '2 form',
        '2 GET /b 2 per 90 seconds by ip',
        '1 undefined',
      ],
    );
    assert.deepEqual(ran, []);
  }
});

test('who catches a refusal in a handler may change it: nobody else sees that', async (t) => {
  const { ask } = await guarded(t, (app) => {
    app.get('/names', { config: { access: open(), limits: ['1 per minute by username'] } }, async (request) => {
      await request.countUsername('ada').catch((error: unknown) => {
        assert.ok(error instanceof Problem);
        const caught = Object.assign(error, { reason: 'changed', seen: true });
        throw caught;
      });
      return {};
    });
  });
  assert.equal((await ask('/names')).status, 200);
  for (let i = 0; i < 2; i += 1) assert.deepEqual((await ask('/names')).json['violated-policies'], ['names']);
});

test('a failed authentication whose count fails is still answered, closed', async (t) => {
  const clock = manualClock();
  const counters = memoryCounters({ clock, secret: Buffer.alloc(32) });
  for (const fail of [
    (): never => {
      throw new Error('away');
    },
    () => Promise.reject(new Error('away')),
  ]) {
    const { ask, ran } = await guarded(t, one(signedIn()), {
      counters: {
        peek: (charges) => counters.peek(charges),
        take: (charges) => (charges.some(({ rule }) => rule.id.includes('auth-failures')) ? fail() : counters.take(charges)),
      },
    });
    assert.equal((await ask('/notes', { token: 'x' })).status, 500);
    assert.deepEqual(ran, []);
  }
});

test('gates stand before the body: what is refused is neither parsed nor waited for', async (t) => {
  let parsed = 0;
  const { app, ran, mint } = await guarded(t, (own, seen) => {
    own.removeAllContentTypeParsers();
    own.addContentTypeParser('*', { parseAs: 'buffer', bodyLimit: 20_000_000 }, (_, body, done) => {
      parsed += 1;
      done(null, body);
    });
    own.route(route(seen, signedIn(), { method: 'POST' }));
  });
  await app.listen({ port: 0, host: '127.0.0.1' });
  const { port } = app.server.address() as AddressInfo; // it listens on TCP
  const post = async (token: string, body: Buffer): Promise<string> => {
    const socket = connect(port, '127.0.0.1');
    socket.on('error', () => {}); // the rest of the body that nobody wants
    socket.write(
      `POST /notes HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer ${token}\r\nContent-Type: text/plain\r\nContent-Length: 10000000\r\n\r\n`,
    );
    socket.write(body);
    const [head] = await once(socket, 'data');
    socket.destroy();
    return String(head);
  };
  assert.match(await post('x', Buffer.alloc(1_000)), /^HTTP\/1\.1 401 /, 'the answer comes while the body is still on its way');
  assert.deepEqual([parsed, ran], [0, []]);
  assert.match(await post(await mint(), Buffer.alloc(10_000_000)), /^HTTP\/1\.1 200 /);
  assert.deepEqual([parsed, ran], [1, ['handler']]);
});

test('limits: what is left is told on each answer, and over the limit nothing runs', async (t) => {
  const { ask, ran, clock } = await guarded(t, one(open(), ['3 per minute', '100 per hour']));
  for (const remaining of [2, 1, 0]) {
    const { status, headers } = await ask('/notes');
    assert.deepEqual(
      [status, headers['ratelimit'], headers['ratelimit-policy']],
      [200, `"notes";r=${remaining};t=60`, '"notes";q=3;w=60, "notes-by-ip";q=100;w=3600'],
    );
  }
  clock.advance(20_500);
  const { status, json, body, headers } = await ask('/notes');
  assert.deepEqual([status, json.code, json.message, json['violated-policies']], [429, 'rate_limited', 'Too Many Requests', ['notes']]);
  const whole = problemBody('rate_limited', guardProblems.rate_limited, json.instance, { violatedPolicies: ['notes'] });
  assert.equal(body, JSON.stringify(whole), 'put together of halves, it is the same');
  assert.deepEqual([headers['retry-after'], headers['ratelimit']], ['40', '"notes";r=0;t=40']);
  assert.equal(ran.length, 3);
  clock.advance(40_000);
  assert.equal((await ask('/notes')).status, 200, 'after Retry-After it is admitted');
});

test('limits by caller count each user alone, on any address, and no refused token', async (t) => {
  const { ask, mint } = await guarded(t, one(signedIn(), ['2 per minute by caller']));
  const [ada, bob] = await Promise.all([mint(), mint({ sub: 'usr_2', username: 'bob' })]);
  const otherDevice = await mint({ sid: 'ses_9', jti: 'tok_9' });
  for (let i = 0; i < 5; i += 1) assert.equal((await ask('/notes', { token: `${ada}x` })).status, 401);
  assert.equal((await ask('/notes', { token: ada })).status, 200);
  assert.equal((await ask('/notes', { token: otherDevice, remoteAddress: '203.0.113.9' })).status, 200);
  for (const token of [ada, otherDevice]) assert.equal((await ask('/notes', { token })).status, 429);
  assert.equal((await ask('/notes', { token: bob })).status, 200);
});

test('default limits join where a route has none by ip; a limit of its own takes their place', async (t) => {
  const { ask, mint, app } = await guarded(
    t,
    (own, ran) => {
      own.route(route(ran, open(), { url: '/a' }));
      own.route(route(ran, signedIn(), { url: '/b' }, ['9 per minute by caller']));
      own.route(route(ran, open(), { url: '/c' }, ['1 per minute']));
    },
    { defaultLimits: '2 per minute' },
  );
  const token = await mint();
  const statuses = async (url: string): Promise<number[]> => [
    (await ask(url, { token })).status,
    (await ask(url, { token })).status,
    (await ask(url, { token })).status,
  ];
  assert.deepEqual(await statuses('/a'), [200, 200, 429]);
  assert.deepEqual(await statuses('/b'), [200, 200, 429]);
  assert.deepEqual(await statuses('/c'), [200, 429, 429]);
  assert.deepEqual(
    app.guardedRoutes.map(({ path, limits }) => [path, limits]),
    [
      ['/a', ['2 per minute by ip']],
      ['/b', ['9 per minute by caller', '2 per minute by ip']],
      ['/c', ['1 per minute by ip']],
    ],
  );
});

test('failed authentications have a limit of their own over all routes; a good token is not charged for them', async (t) => {
  const { ask, mint, ran, clock } = await guarded(
    t,
    (app, seen) => {
      for (const url of ['/a', '/b', '/c']) app.route(route(seen, signedIn(), { url }));
      app.get('/own', { config: { access: open() } }, () => {
        throw new Problem('token_invalid', 'a token of another kind');
      });
      app.route(route(seen, open(), { url: '/open' }));
    },
    { authFailureLimits: '3 per minute' },
  );
  const token = await mint();
  for (let i = 0; i < 10; i += 1) assert.equal((await ask('/a', { token })).status, 200);
  assert.equal((await ask('/a')).status, 401);
  assert.equal((await ask('/b', { token: 'x' })).status, 401);
  assert.equal((await ask('/own')).status, 401, 'what a handler refuses counts too');
  ran.length = 0;
  const { status, json, headers } = await ask('/c', { token });
  assert.deepEqual([status, json['violated-policies'], headers['retry-after']], [429, ['auth-failures'], '60']);
  assert.match([headers['ratelimit-policy'], headers['ratelimit']].join(' '), /"auth-failures";q=3;w=60 "auth-failures";r=0;t=60/);
  assert.deepEqual(ran, []);
  assert.equal((await ask('/c', { token, remoteAddress: '203.0.113.9' })).status, 200, 'other addresses are not punished');
  assert.equal((await ask('/open')).status, 200);
  clock.advance(60_000);
  assert.equal((await ask('/c', { token })).status, 200);
});

test('a failed authentication pays for its route and its failure at once: both or neither, and each once', async (t) => {
  const clock = manualClock();
  const counters = memoryCounters({ clock, secret: Buffer.alloc(32) });
  const taken: string[] = [];
  const { ask, mint, revoked } = await guarded(
    t,
    (app, seen) => {
      app.route(route(seen, signedIn(), { url: '/a' }, ['10 per minute']));
      app.get('/own', { config: { access: open(), limits: ['20 per minute'] } }, () => {
        throw new Problem('token_invalid', 'a token of another kind');
      });
    },
    {
      authFailureLimits: '5 per minute',
      tokens: accessTokens({ issuer, audience: 'notes', keys, clock }),
      clock,
      counters: {
        peek: () => ({ allowed: true, tightest: undefined }), // as where only a shared store knows, or others came at the same time
        take(charges) {
          taken.push(charges.map(({ rule }) => rule.name).join('+'));
          return counters.take(charges);
        },
      },
    },
  );
  const once = async (url: string, token: string | undefined): Promise<unknown[]> => {
    taken.length = 0;
    const { status, headers } = await ask(url, { token });
    return [status, taken.join(', '), headers['ratelimit'], headers['ratelimit-policy']];
  };
  const [token, ended] = [await mint(), await mint({ sid: 'ses_2' })];
  revoked.add('ses_2');
  const failures = '"auth-failures";q=5;w=60';
  assert.deepEqual(await once('/a', token), [200, 'a', '"a";r=9;t=60', '"a";q=10;w=60']);
  assert.deepEqual(await once('/a', undefined), [401, 'a+auth-failures', '"a";r=8;t=60', '"a";q=10;w=60']);
  assert.deepEqual(
    await once('/a', 'x'),
    [401, 'a+auth-failures', '"auth-failures";r=3;t=60', failures],
    'what is nearest its end is told',
  );
  assert.deepEqual(await once('/a', ended), [401, 'a+auth-failures', '"auth-failures";r=2;t=60', failures]);
  assert.deepEqual(await once('/own', undefined), [401, 'own, auth-failures', '"own";r=19;t=60', '"own";q=20;w=60']);
  assert.deepEqual(await once('/a', `${token.slice(0, -9)}AAAAAAAAA`), [401, 'a+auth-failures', '"auth-failures";r=0;t=60', failures]);
  for (const bad of ['x', undefined])
    assert.deepEqual(await once('/a', bad), [429, 'a+auth-failures', '"auth-failures";r=0;t=60', failures]);
  assert.deepEqual(await once('/a', token), [200, 'a', '"a";r=4;t=60', '"a";q=10;w=60'], 'what one refuses counts on none');
});

test('limits by username are counted when the handler names one, on any kind of route', async (t) => {
  for (const access of [open(), signedIn(), signedInIfSent(), refreshToken()]) {
    const { ask, mint, ran } = await guarded(t, (app, seen) => {
      app.post<{ Querystring: { name: string } }>(
        '/login',
        { config: { access, limits: ['2 per minute by username'] } },
        async (request) => {
          await request.countUsername(request.query.name);
          seen.push(request.query.name);
          return {};
        },
      );
    });
    const token = access.kind === 'refresh-token' ? 'prt_x' : await mint();
    const statuses = [];
    for (const name of ['ada', 'ada', 'ada', 'bob']) statuses.push((await ask(`/login?name=${name}`, { method: 'POST', token })).status);
    assert.deepEqual(
      [statuses, ran],
      [
        [200, 200, 429, 200],
        ['ada', 'ada', 'bob'],
      ],
      access.kind,
    );
  }
});

test('HEAD has the gates of GET and counts with it', async (t) => {
  const { ask, mint, ran } = await guarded(t, one(signedIn(), ['2 per minute']));
  const token = await mint();
  assert.equal((await ask('/notes', { method: 'HEAD' })).status, 401);
  assert.deepEqual(ran, []);
  assert.equal((await ask('/notes', { method: 'HEAD', token })).status, 200);
  assert.equal((await ask('/notes', { token })).status, 429);
  const { status, headers } = await ask('/notes', { method: 'OPTIONS' });
  assert.deepEqual([status, headers['allow']], [204, 'GET, HEAD, OPTIONS']);
});

test("hooks of one's own, of a route or of a scope, run behind the gates and know the caller", async (t) => {
  const { ask, mint, ran } = await guarded(t, (app, seen) => {
    app.register(async (child) => {
      child.addHook('onRequest', async ({ caller }) => {
        seen.push(`scope: ${caller.username}`);
      });
      child.route(
        route(seen, signedIn(), {
          onRequest: [
            async ({ caller }) => {
              seen.push(`first: ${caller.username}`);
            },
            async () => {
              seen.push('second');
            },
          ],
        }),
      );
      child.route(
        route(seen, signedIn(), {
          url: '/one',
          onRequest: (_request, _reply, done) => {
            seen.push('alone');
            done();
          },
        }),
      );
    });
  });
  for (const url of ['/notes', '/one']) assert.equal((await ask(url, { token: 'x' })).status, 401);
  assert.deepEqual(ran, []);
  const token = await mint();
  await ask('/notes', { token });
  await ask('/one', { token });
  assert.deepEqual(ran, ['scope: ada', 'first: ada', 'second', 'handler', 'scope: ada', 'alone', 'handler']);
});

test("an error handler of one's own answers for one's own errors, and never for a gate", async (t) => {
  const { ask, mint, refusals } = await guarded(
    t,
    (app) => {
      app.register(async (child) => {
        child.setErrorHandler((error, _, reply) => {
          reply.code(200).send({ mine: String(error) });
        });
        child.get('/mine', { config: { access: signedIn() } }, () => {
          throw new Error('my trouble');
        });
      });
      app.get('/plain', { config: { access: signedIn() } }, () => {
        throw new Error('secret of mine');
      });
    },
    { authFailureLimits: '2 per minute' },
  );
  const token = await mint();
  assert.deepEqual((await ask('/mine', { token })).json, { mine: 'Error: my trouble' });
  assert.deepEqual(refusals, []);

  const { status, body } = await ask('/plain', { token });
  assert.equal(status, 500);
  assert.doesNotMatch(body, /secret of mine/);

  for (const expected of [401, 401, 429])
    assert.equal((await ask('/mine', { token: 'x' })).status, expected, 'the gate answers, and the failure is counted');
  assert.deepEqual(
    refusals.map(({ code }) => code),
    ['internal', 'token_invalid', 'token_invalid', 'rate_limited'],
  );
});

test('every answer has the headers and an id that its problem names, whatever the handler set', async (t) => {
  const { ask, refusals } = await guarded(t, (app) => {
    app.get('/cached', { config: { access: open() } }, (_, reply) => {
      reply.header('cache-control', 'public, max-age=300').header('vary', 'Accept').header('etag', '"1"');
      throw new Problem('unavailable', 'away', { retryAfterS: 3 });
    });
  });
  for (const [url, status] of [
    ['/cached', 503],
    ['/unknown', 404],
  ] as const) {
    const { status: got, headers, json } = await ask(url);
    assert.equal(got, status);
    assert.equal(json.instance, `urn:uuid:${String(headers['x-request-id'])}`);
    assert.deepEqual(
      [headers['x-content-type-options'], headers['cache-control'], headers['content-type']],
      ['nosniff', 'no-store', 'application/problem+json; charset=utf-8'],
      url,
    );
    assert.match(String(headers['ratelimit']), /r=299/);
  }
  assert.deepEqual(
    refusals.map(({ route: path }) => path),
    ['/cached', undefined],
  );
});

test('a body that comes slowly: when the session ends or the token expires meanwhile, the handler is not reached', async (t) => {
  for (const [code, happens] of [
    ['token_revoked', ({ revoked }) => void revoked.add('ses_1')],
    ['token_expired', ({ clock }) => clock.advance(3_600_000)],
  ] as [string, (of: Awaited<ReturnType<typeof guarded>>) => void][]) {
    const of = await guarded(t, (app, ran) => {
      app.post('/notes', { config: { access: signedIn() } }, async ({ body }) => {
        ran.push('handler');
        return { body };
      });
    });
    await of.app.listen({ port: 0, host: '127.0.0.1' });
    const socket = connect((of.app.server.address() as AddressInfo).port, '127.0.0.1');
    t.after(() => socket.destroy());
    const text = JSON.stringify({ note: 'late' });
    socket.write(
      `POST /notes HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer ${await of.mint()}\r\nContent-Type: application/json\r\nContent-Length: ${text.length}\r\nConnection: close\r\n\r\n${text.slice(0, 5)}`,
    );
    await new Promise((done) => {
      setTimeout(done, 100);
    }); // it has passed the gates and waits for the rest
    happens(of);
    socket.write(text.slice(5));
    let answer = '';
    for await (const chunk of socket) answer += chunk;
    assert.match(answer, /^HTTP\/1\.1 401 /);
    assert.ok(answer.includes(`"code":"${code}"`), answer);
    assert.deepEqual(of.ran, []);
  }
});

test('a parameter that does not fit is told apart from a body, and a field is named', async (t) => {
  const { ask, refusals } = await guarded(t, (app) => {
    app.get(
      '/notes/:id',
      { config: { access: open() }, schema: { params: { type: 'object', properties: { id: { type: 'integer' } } } } },
      () => 'ok',
    );
    app.post(
      '/notes',
      {
        config: { access: open() },
        schema: {
          body: {
            type: 'object',
            required: ['text'],
            properties: { text: { type: 'array', maxItems: 1, items: { type: 'string', maxLength: 3 } } },
          },
        },
      },
      () => 'ok',
    );
  });
  const parameter = await ask('/notes/abc');
  assert.equal(parameter.json.code, 'parameters_invalid');
  assert.match(parameter.json.detail, /: id\./);
  const body = await ask('/notes', { method: 'POST', payload: { text: ['<script>'] } });
  assert.equal(body.json.code, 'body_invalid');
  assert.match(body.json.detail, /^Of the body, this does not fit: text\.0\. /);
  assert.equal(refusals.length, 2);
});

test('TLS at a proxy: what is refused says why, and who knows more of a connection is believed', async (t) => {
  const told = async (options: Partial<GuardOptions>, request: InjectOptions) => {
    const { ask, refusals } = await guarded(t, one(open()), { tls: 'at-proxy', ...options });
    const { status, headers } = await ask('/notes', request);
    assert.equal(headers['strict-transport-security'] !== undefined, status === 200);
    return status === 200 ? 'passed' : `${refusals[0]?.code}: ${refusals[0]?.reason}`;
  };
  const proxies = { trustedProxies: ['10.0.0.1'] };
  const proxy = { remoteAddress: '10.0.0.1' };
  const [https, forwarded] = [{ 'x-forwarded-proto': 'https' }, { forwarded: 'for=203.0.113.7;proto=https' }];
  assert.equal(await told(proxies, { ...proxy, headers: https }), 'passed');
  assert.equal(await told({ ...proxies, trustedProxyHeader: 'forwarded' }, { ...proxy, headers: forwarded }), 'passed');
  assert.equal(await told({ peer: () => ({ address: '203.0.113.7', encrypted: true }) }, {}), 'passed');
  const silent = 'https_required: the proxy does not say https';
  assert.equal(await told(proxies, { ...proxy, headers: forwarded }), silent);
  assert.equal(await told({ ...proxies, trustedProxyHeader: 'forwarded' }, { ...proxy, headers: https }), silent);
  assert.equal(await told(proxies, { remoteAddress: '10.0.0.2', headers: https }), 'https_required: not from a declared proxy');
  const unknown = 'https_required: the connection is not known to be TLS from the client on';
  assert.equal(await told({ peer: () => ({ address: '203.0.113.7', encrypted: false }) }, { headers: https }), unknown);
  assert.equal(await told({}, { headers: https }), unknown);
});
