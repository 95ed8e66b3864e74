import { generateKeyPairSync, randomBytes, scryptSync, timingSafeEqual } from 'node:crypto';
import { readFileSync } from 'node:fs';

/** What each peer on Node is given by its parent: `node main.ts <certificate> <key> <Redis> <how tokens are signed>`. */
const [certFile = '', keyFile = '', redis = '', how = ''] = process.argv.slice(2);

/** Connections rest while the others are measured. */
export const tls = { cert: readFileSync(certFile), key: readFileSync(keyFile), keepAliveTimeout: 600_000 };
/** With the number of a database of its own. */
export const redisUrl = redis;
export const signing = how;
export const origin = 'https://your-frontend.com';
/** Never met, always counted. */
export const limit = { max: 1_000_000_000, windowMs: 3_600_000 };
export const tokenTtl = '15m';

export const secret = randomBytes(32).toString('base64');
export const ed25519 = generateKeyPairSync('ed25519', {
  publicKeyEncoding: { type: 'spki', format: 'pem' },
  privateKeyEncoding: { type: 'pkcs8', format: 'pem' },
});

const salt = randomBytes(16);
const passwordHash = scryptSync('password123', salt, 32);

export const isTheUser = ({ username, password }: { username?: unknown; password?: unknown }): boolean =>
  typeof password === 'string' && username === 'testuser' && timingSafeEqual(scryptSync(password, salt, 32), passwordHash);

/** Tells the parent, and ends with it. */
export function listensOn(port: number): void {
  process.once('disconnect', () => process.exit());
  process.send?.({ port });
}
