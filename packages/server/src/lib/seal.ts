import { createCipheriv, createDecipheriv, createHash, createHmac, hkdfSync, timingSafeEqual } from 'node:crypto';
import { randomBytes } from './secret.ts';

/** The master secret, and behind it those of before: all are read, only the first one writes. */
export type Secrets = readonly [current: string, ...previous: string[]];

/** 32 bytes for one purpose alone, from a secret (HKDF-SHA256, RFC 5869). */
export const deriveKey = (secret: string | Uint8Array, purpose: string): Buffer =>
  Buffer.from(hkdfSync('sha256', secret, '', `portcullis ${purpose} v1`, 32));

export const sha256 = (text: string): string => createHash('sha256').update(text).digest('base64url');

export const hmac = (key: Uint8Array, data: Uint8Array | string): Buffer => createHmac('sha256', key).update(data).digest();

/** In constant time; false for unequal lengths. */
export const isSame = (a: Uint8Array, b: Uint8Array): boolean => a.length === b.length && timingSafeEqual(a, b);

/** HMAC-SHA256 for one purpose, cut to its first `bytes`: made under the current master secret, good under those of before too. */
export function macs(secrets: Secrets, purpose: string, bytes = 32) {
  const keys = secrets.map((secret) => deriveKey(secret, purpose));
  const current = deriveKey(secrets[0], purpose);
  const make = (key: Uint8Array, data: Uint8Array | string): Buffer => hmac(key, data).subarray(0, bytes);
  return {
    of: (data: Uint8Array | string): Buffer => make(current, data),
    isOne: (mac: Uint8Array, data: Uint8Array | string): boolean => keys.some((key) => isSame(mac, make(key, data))),
  };
}

/** AES-256-GCM: a fresh nonce, the ciphertext and its tag, as base64url. `context` is bound in: sealed for one place, it opens in no other. */
export function seal(key: Uint8Array, plain: string, context: string): string {
  const nonce = randomBytes(12);
  const cipher = createCipheriv('aes-256-gcm', key, nonce).setAAD(Buffer.from(context));
  return Buffer.concat([nonce, cipher.update(plain, 'utf8'), cipher.final(), cipher.getAuthTag()]).toString('base64url');
}

/** What was sealed; `undefined` when it was not sealed with this key for this context. */
export function unseal(key: Uint8Array, sealed: string, context: string): string | undefined {
  const bytes = Buffer.from(sealed, 'base64url');
  if (bytes.length < 28) return undefined;
  const decipher = createDecipheriv('aes-256-gcm', key, bytes.subarray(0, 12)).setAAD(Buffer.from(context)).setAuthTag(bytes.subarray(-16));
  try {
    return Buffer.concat([decipher.update(bytes.subarray(12, -16)), decipher.final()]).toString('utf8');
  } catch {
    return undefined;
  }
}
