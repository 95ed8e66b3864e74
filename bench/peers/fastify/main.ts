import { randomUUID } from 'node:crypto';
import cors from '@fastify/cors';
import helmet from '@fastify/helmet';
import jwt from '@fastify/jwt';
import rateLimit from '@fastify/rate-limit';
import Fastify from 'fastify';
import { Redis } from 'ioredis';
import type { AddressInfo } from 'node:net';
import { ed25519, isTheUser, limit, listensOn, origin, redisUrl, secret, signing, tls, tokenTtl } from '../given.ts';

declare module '@fastify/jwt' {
  interface FastifyJWT {
    payload: { sub: string; jti: string };
    user: { sub: string; jti: string; exp: number };
  }
}

const redis = new Redis(redisUrl, { maxRetriesPerRequest: 1, enableAutoPipelining: true });
const { keepAliveTimeout, ...https } = tls;
const app = Fastify({ https, keepAliveTimeout });

await app.register(helmet);
await app.register(cors, { origin });
await app.register(rateLimit, { max: limit.max, timeWindow: limit.windowMs, redis });
await app.register(jwt, {
  ...(signing === 'HS256'
    ? { secret, sign: { algorithm: 'HS256', expiresIn: tokenTtl }, verify: { algorithms: ['HS256'] } }
    : {
        secret: { private: ed25519.privateKey, public: ed25519.publicKey },
        sign: { algorithm: 'EdDSA', expiresIn: tokenTtl },
        verify: { algorithms: ['EdDSA'], cache: signing === 'EdDSA, remembered' },
      }),
  trusted: async (_, { jti }) => (await redis.exists(`revoked:${jti}`)) === 0,
});

const credentials = {
  type: 'object',
  required: ['username', 'password'],
  properties: { username: { type: 'string' }, password: { type: 'string' } },
} as const;
app.post<{ Body: { username: string; password: string } }>('/login', { schema: { body: credentials } }, async ({ body }, reply) => {
  if (!isTheUser(body)) return reply.code(401).send({ msg: 'Invalid credentials' });
  return { access_token: app.jwt.sign({ sub: body.username, jti: randomUUID() }) };
});

await app.register(async (inside) => {
  inside.addHook('onRequest', async (request) => {
    await request.jwtVerify();
  });
  const answer = { type: 'object', properties: { logged_in_as: { type: 'string' } } } as const;
  inside.get('/protected', { schema: { response: { 200: answer } } }, async ({ user }) => ({ logged_in_as: user.sub }));
  inside.post('/logout', async ({ user }) => {
    await redis.set(`revoked:${user.jti}`, '', 'EXAT', user.exp);
    return { msg: 'Successfully logged out' };
  });
});

await app.listen({ host: '127.0.0.1', port: 0 });
listensOn((app.server.address() as AddressInfo).port); // a TCP server
