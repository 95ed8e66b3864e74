import type { CryptoKey, JWK } from 'jose';
import { importJWK } from 'jose/key/import';

/** One algorithm a key, and no other (RFC 8725 section 3.1). */
export const signingAlgorithms = ['EdDSA', 'ES256', 'RS256', 'PS256'] as const;
/** HS256 only verifies tokens between parties that share an imported secret; it is never made here and never published. */
export const algorithms = [...signingAlgorithms, 'HS256'] as const;
export type Algorithm = (typeof algorithms)[number];

export type VerificationKey = {
  readonly kid: string;
  readonly alg: Algorithm;
  /** `compromised`: somebody else may have it, so nothing that it signs proves anything any more. */
  readonly key: CryptoKey | Uint8Array | 'compromised';
};

/** The keys that access tokens are verified with. */
export interface VerificationKeys {
  /** `undefined`: never heard of, or gone with its last token. The same object each time, which is how a remembered token knows its key. */
  find(kid: string): VerificationKey | undefined;
}

/**
 * Keys from a JWK set that is at hand: public ones, and shared secrets of at least 32 bytes.
 * @throws {Error} naming the key that cannot be used, and why.
 */
export async function fixedKeys(set: { keys: readonly JWK[] }): Promise<VerificationKeys> {
  const keys = new Map<string, VerificationKey>();
  for (const jwk of set.keys) {
    const { kid = '' } = jwk;
    const alg = algorithms.find((known) => known === jwk.alg);
    const wrong = keys.has(kid) ? 'is in the set twice' : faultOf(jwk);
    if (wrong || !alg) throw new Error(`the key "${kid}" ${wrong ?? `has an "alg" other than ${algorithms.join(', ')}`}`);
    keys.set(kid, { kid, alg, key: await importJWK(jwk, alg) });
  }
  return { find: (kid) => keys.get(kid) };
}

/** What would not show before the first token came, or never (sizes: RFC 7518 sections 3.2 and 3.3). */
function faultOf({ kid, alg, kty, d, k = '', n = '', e = '' }: JWK): string | undefined {
  if (!kid) return 'has no "kid"';
  if (d !== undefined) return 'is private: a guard only needs the public one';
  if ((kty === 'oct') !== (alg === 'HS256')) return `cannot be for "${alg}"`;
  if (kty === 'oct' && Buffer.from(k, 'base64url').length < 32) return 'is shorter than 32 bytes';
  if (kty === 'RSA' && !isRsaFit(Buffer.from(n, 'base64url').length * 8, Buffer.from(e, 'base64url')))
    return 'is shorter than 2048 bits, longer than 8192, or has an exponent that is even, 1 or of more than 32 bits';
  return undefined;
}

/**
 * Whether an RSA key is strong, and cheap enough to check with that a flood of forgeries holds nobody up: one of 16,384 bits, or with
 * an exponent as long as its modulus, takes milliseconds. With an exponent of 1 anybody can sign.
 * @param exponent big end first.
 */
export function isRsaFit(modulusBits: number, exponent: Uint8Array): boolean {
  const e = exponent.reduce((sum, byte) => sum * 256 + byte, 0);
  return modulusBits >= 2_048 && modulusBits <= 8_192 && e >= 3 && e < 2 ** 32 && e % 2 === 1;
}
