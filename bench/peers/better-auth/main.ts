import { createServer } from 'node:https';
import type { AddressInfo } from 'node:net';
import { DatabaseSync } from 'node:sqlite';
import { redisStorage } from '@better-auth/redis-storage';
import { betterAuth } from 'better-auth';
import { createAuthEndpoint, sessionMiddleware } from 'better-auth/api';
import { getMigrations } from 'better-auth/db/migration';
import { toNodeHandler } from 'better-auth/node';
import cors from 'cors';
import helmet from 'helmet';
import { Redis } from 'ioredis';
import { limit, listensOn, origin, redisUrl, secret, tls } from '../given.ts';

const rule = { window: limit.windowMs / 1000, max: limit.max };

const auth = betterAuth({
  baseURL: 'https://localhost',
  trustedOrigins: [origin],
  secret,
  database: new DatabaseSync(':memory:'),
  secondaryStorage: redisStorage({ client: new Redis(redisUrl) }),
  emailAndPassword: { enabled: true },
  // Its own rules for logging in would meet the three log-ins of the check.
  rateLimit: { enabled: true, storage: 'secondary-storage', ...rule, customRules: { '/sign-in/*': rule, '/sign-up/*': rule } },
  advanced: { ipAddress: { ipAddressHeaders: ['x-client-address'] } },
  plugins: [
    {
      id: 'protected',
      endpoints: {
        protected: createAuthEndpoint('/protected', { method: 'GET', use: [sessionMiddleware] }, async (on) =>
          on.json({ logged_in_as: on.context.session.user.name }),
        ),
      },
    },
  ],
});

await (await getMigrations(auth.options)).runMigrations();
await auth.api.signUpEmail({ body: { name: 'testuser', email: 'testuser@example.com', password: 'password123' } });

const headers = helmet();
const allow = cors({ origin, credentials: true });
const handle = toNodeHandler(auth);
const server = createServer(tls, (request, response) => {
  request.headers['x-client-address'] = request.socket.remoteAddress; // never a caller's word
  headers(request, response, () => allow(request, response, () => void handle(request, response)));
}).listen(0, '127.0.0.1', () => listensOn((server.address() as AddressInfo).port)); // a TCP server
