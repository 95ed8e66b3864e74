import { createHash, createPrivateKey, createPublicKey, sign, verify } from 'node:crypto';
import { type Algorithm, isRsaFit } from '@portcullis/guard';
import type { JWK } from 'jose';
import * as base64url from 'jose/base64url';
import { calculateJwkThumbprint } from 'jose/jwk/thumbprint';
import { exportJWK } from 'jose/key/export';
import { generateKeyPair } from 'jose/key/generate/keypair';
import { deriveKey, seal, type Secrets, unseal } from '../../lib/seal.ts';
import { Problem } from '../problem.ts';
import type { StoredKey } from './key.ts';

const sealKey = (masterSecret: string): Buffer => deriveKey(masterSecret, 'signing key');

/** As long as 128 bits of strength demand (NIST SP 800-57 part 1, table 2; ASVS 11.2.3). */
const MADE_RSA_BITS = 3_072;

export async function makeKey(alg: Algorithm, masterSecret: string, times: { createdAt: number; activeFrom: number }): Promise<StoredKey> {
  const { privateKey } = await generateKeyPair(alg, { extractable: true, modulusLength: MADE_RSA_BITS });
  const key = await storedKey(await exportJWK(privateKey), alg, 'made', masterSecret, times);
  // A kid is typed on command lines, where a dash at its front would make it an option: one in 64 is thrown away.
  return key.kid.startsWith('-') ? makeKey(alg, masterSecret, times) : key;
}

/**
 * A key that an operator brings: PEM (PKCS #8, PKCS #1 or SEC 1) or JWK.
 * @throws {Problem} `key_unusable`
 */
export async function importedKey(
  text: string,
  masterSecret: string,
  times: { createdAt: number; activeFrom: number },
): Promise<StoredKey> {
  const given = readJwk(text);
  const jwk = keyAlone(given);
  const alg = algorithmOf(jwk, given.alg);
  if ((given.alg ?? alg) !== alg || (given.use ?? 'sig') !== 'sig') throw new Problem('key_unusable', 'for something else');
  return storedKey(jwk, alg, 'imported', masterSecret, times);
}

/** The private JWK; `undefined` under other master secrets than it was sealed with. */
export function openPrivateJwk(key: StoredKey, ...secrets: readonly string[]): JWK | undefined {
  const text = opened(key, secrets)?.text;
  return text === undefined ? undefined : (JSON.parse(text) as JWK); // we sealed it ourselves
}

/** Which of the secrets a key is sealed under. */
export const sealedUnder = (key: StoredKey, secrets: readonly string[]): string | undefined => opened(key, secrets)?.secret;

/** The seal under the current secret, for a key that is sealed under a previous one; `undefined` where there is nothing to do. */
export function newSeal(key: StoredKey, secrets: Secrets): string | undefined {
  const found = opened(key, secrets);
  return found && found.secret !== secrets[0] ? seal(sealKey(secrets[0]), found.text, key.kid) : undefined;
}

function opened(key: StoredKey, secrets: readonly string[]): { text: string; secret: string } | undefined {
  for (const secret of secrets) {
    const text = unseal(sealKey(secret), key.sealedPrivateJwk, key.kid);
    if (text !== undefined) return { text, secret };
  }
  return undefined;
}

async function storedKey(
  jwk: JWK,
  alg: Algorithm,
  origin: StoredKey['origin'],
  masterSecret: string,
  times: { createdAt: number; activeFrom: number },
): Promise<StoredKey> {
  const kid =
    jwk.kty === 'oct'
      ? `hs_${(await calculateJwkThumbprint({ ...jwk, k: base64url.encode(deriveKey(hmacKey(jwk.k ?? ''), 'kid')) })).slice(0, 22)}`
      : await calculateJwkThumbprint(jwk);
  const publicJwk = jwk.kty === 'oct' ? undefined : JSON.stringify({ ...publicHalf(jwk), kid, alg, use: 'sig' });
  return {
    kid,
    alg,
    origin,
    ...times,
    publicJwk,
    sealedPrivateJwk: seal(sealKey(masterSecret), JSON.stringify({ ...jwk, kid, alg }), kid),
    compromisedAt: undefined,
  };
}

/** One spelling for each HMAC key: longer ones are hashed, shorter ones filled with zeros (RFC 2104 section 2), so those at the end say nothing. */
function hmacKey(k: string): Buffer {
  const secret = Buffer.from(k, 'base64url');
  const key = secret.length > 64 ? createHash('sha256').update(secret).digest() : secret;
  return key.subarray(0, key.findLastIndex((byte) => byte !== 0) + 1);
}

const publicHalf = ({ kty, crv, x, y, n, e }: JWK): JWK => ({ kty, crv, x, y, n, e });

function readJwk(text: string): JWK {
  return usable(() => {
    const jwk: unknown = text.includes('-----BEGIN') ? createPrivateKey(text).export({ format: 'jwk' }) : JSON.parse(text);
    return { ...Object(jwk) };
  });
}

/** Without what another program wrote beside it; and proven: what the private half signs, the public half verifies. */
function keyAlone(jwk: JWK): JWK {
  return usable(() => {
    if (jwk.kty === 'oct') return { kty: 'oct', k: base64url.encode(base64url.decode(jwk.k ?? '')) };
    const privateKey = createPrivateKey({ key: { ...jwk }, format: 'jwk' });
    const publicKey = createPublicKey({ key: { ...publicHalf(jwk) }, format: 'jwk' });
    const hash = jwk.kty === 'OKP' ? null : 'sha256';
    const probe = Buffer.from('probe');
    if (!verify(hash, probe, publicKey, sign(hash, probe, privateKey))) throw new Error('two halves of different keys');
    return privateKey.export({ format: 'jwk' });
  });
}

function usable(read: () => JWK): JWK {
  try {
    return read();
  } catch {
    throw new Problem('key_unusable', 'not a private key');
  }
}

/** @param said what a JWK says of itself; of an RSA key only that tells RS256 and PS256 apart. */
function algorithmOf(jwk: JWK, said: string | undefined): Algorithm {
  if (jwk.kty === 'OKP' && jwk.crv === 'Ed25519') return 'EdDSA';
  if (jwk.kty === 'EC' && jwk.crv === 'P-256') return 'ES256';
  if (jwk.kty === 'RSA' && isRsaFit(bytesOf(jwk.n).length * 8, bytesOf(jwk.e))) return said === 'PS256' ? 'PS256' : 'RS256';
  if (jwk.kty === 'oct' && isStrong(bytesOf(jwk.k))) return 'HS256';
  throw new Problem('key_unusable', 'kind or size');
}

const bytesOf = (member = ''): Buffer => Buffer.from(member, 'base64url');

/** At least 32 bytes, and not a few of them over and over. */
const isStrong = (secret: Uint8Array): boolean => secret.length >= 32 && new Set(secret).size >= 10;
