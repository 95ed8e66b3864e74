import { randomUUID } from 'node:crypto';
import { createServer } from 'node:https';
import type { AddressInfo } from 'node:net';
import cors from 'cors';
import express, { type ErrorRequestHandler, type Request, type RequestHandler } from 'express';
import { expressjwt, UnauthorizedError } from 'express-jwt';
import { rateLimit } from 'express-rate-limit';
import helmet from 'helmet';
import { errors, importPKCS8, importSPKI, jwtVerify, SignJWT } from 'jose';
import jsonwebtoken from 'jsonwebtoken';
import { RedisStore } from 'rate-limit-redis';
import { createClient } from 'redis';
import { ed25519, isTheUser, limit, listensOn, origin, redisUrl, secret, signing, tls, tokenTtl } from '../given.ts';

type Claims = { sub: string; jti: string; exp: number };
type Signed = Request & { auth?: Claims };

const redis = await createClient({ url: redisUrl })
  .on('error', (error) => console.error(error))
  .connect();
const isRevoked = async (jti = ''): Promise<boolean> => (await redis.exists(`revoked:${jti}`)) === 1;
const { sign, signedIn } = signing === 'HS256' ? withJsonwebtoken() : await withJose();

const app = express();
app.disable('etag');
app.use(helmet());
app.use(cors({ origin }));
app.use(
  rateLimit({
    windowMs: limit.windowMs,
    limit: limit.max,
    standardHeaders: 'draft-8',
    legacyHeaders: false,
    store: new RedisStore({ sendCommand: (...words: string[]) => redis.sendCommand(words) }),
  }),
);

app.post('/login', express.json(), async (request, response) => {
  const body = (request.body ?? {}) as { username?: unknown; password?: unknown }; // JSON, or nothing
  if (!isTheUser(body)) return void response.status(401).json({ msg: 'Invalid credentials' });
  response.json({ access_token: await sign('testuser', randomUUID()) });
});
app.get('/protected', signedIn, (request: Signed, response) => {
  response.json({ logged_in_as: request.auth?.sub });
});
app.post('/logout', signedIn, async ({ auth }: Signed, response) => {
  await redis.set(`revoked:${auth?.jti}`, '', { expiration: { type: 'EXAT', value: auth?.exp ?? 0 } });
  response.json({ msg: 'Successfully logged out' });
});
app.use(((error, _request, response, next) => {
  if (!(error instanceof UnauthorizedError || error instanceof errors.JOSEError)) return next(error);
  response.status(401).json({ msg: 'Token is invalid' });
}) satisfies ErrorRequestHandler);

const server = createServer(tls, app).listen(0, '127.0.0.1', () => listensOn((server.address() as AddressInfo).port)); // a TCP server

/** express-jwt, and jsonwebtoken below it, which has no EdDSA. */
function withJsonwebtoken() {
  const signedIn = expressjwt({
    secret,
    algorithms: ['HS256'],
    isRevoked: (_, token) => isRevoked((token?.payload as Claims | undefined)?.jti),
  });
  return {
    sign: async (sub: string, jti: string) => jsonwebtoken.sign({ sub, jti }, secret, { algorithm: 'HS256', expiresIn: '15m' }),
    signedIn,
  };
}

/** jose, for the algorithm that express-jwt has not. */
async function withJose() {
  const [privateKey, publicKey] = await Promise.all([importPKCS8(ed25519.privateKey, 'EdDSA'), importSPKI(ed25519.publicKey, 'EdDSA')]);
  const signedIn: RequestHandler = async (request: Signed, response, next) => {
    const [, token = ''] = /^Bearer (.+)$/i.exec(request.headers.authorization ?? '') ?? [];
    const { payload } = await jwtVerify<Claims>(token, publicKey, { algorithms: ['EdDSA'] });
    if (await isRevoked(payload.jti)) return void response.status(401).json({ msg: 'Token has been revoked' });
    request.auth = payload;
    next();
  };
  return {
    sign: (sub: string, jti: string) =>
      new SignJWT({ sub, jti }).setProtectedHeader({ alg: 'EdDSA' }).setExpirationTime(tokenTtl).sign(privateKey),
    signedIn,
  };
}
