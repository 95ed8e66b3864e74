import { createServer } from 'node:https';
import type { AddressInfo } from 'node:net';
import { DatabaseSync } from 'node:sqlite';
import { redisStorage } from '@better-auth/redis-storage';
import { betterAuth } from 'better-auth';
import { getMigrations } from 'better-auth/db/migration';
import { fromNodeHeaders, toNodeHandler } from 'better-auth/node';
import cors from 'cors';
import express from 'express';
import { rateLimit } from 'express-rate-limit';
import helmet from 'helmet';
import { Redis } from 'ioredis';
import { type RedisReply, RedisStore } from 'rate-limit-redis';
import { limit, listensOn, origin, redisUrl, secret, tls } from '../given.ts';

const redis = new Redis(redisUrl, { enableAutoPipelining: true });
const auth = betterAuth({
  baseURL: 'https://localhost',
  trustedOrigins: [origin],
  secret,
  database: new DatabaseSync(':memory:'),
  secondaryStorage: redisStorage({ client: redis }),
  emailAndPassword: { enabled: true },
  // Counts for its own paths alone: a route of one's own needs another limit, below.
  rateLimit: { enabled: true, storage: 'secondary-storage' },
  advanced: { ipAddress: { ipAddressHeaders: ['x-client-address'] } },
});
await (await getMigrations(auth.options)).runMigrations();
await auth.api.signUpEmail({ body: { name: 'testuser', email: 'testuser@example.com', password: 'password123' } });

const app = express();
app.disable('etag');
app.use(helmet());
app.use(cors({ origin, credentials: true }));
const handle = toNodeHandler(auth);
app.all('/api/auth/*splat', (request, response) => {
  request.headers['x-client-address'] = request.socket.remoteAddress; // never a caller's word
  return handle(request, response);
});

app.get(
  '/protected',
  rateLimit({
    windowMs: limit.windowMs,
    limit: limit.max,
    standardHeaders: 'draft-8',
    legacyHeaders: false,
    // What ioredis gives is unknown to it; a reply of Redis is one.
    store: new RedisStore({ sendCommand: (command: string, ...words: string[]) => redis.call(command, ...words) as Promise<RedisReply> }),
  }),
  async (request, response) => {
    const session = await auth.api.getSession({ headers: fromNodeHeaders(request.headers) });
    if (!session) return void response.status(401).json({ msg: 'Not signed in' });
    response.json({ logged_in_as: session.user.name });
  },
);

const server = createServer(tls, app).listen(0, '127.0.0.1', () => listensOn((server.address() as AddressInfo).port)); // a TCP server
