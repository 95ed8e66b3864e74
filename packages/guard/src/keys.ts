import { type CryptoKey, importJWK, type JWK } from 'jose';

/** One algorithm a key, and no other (RFC 8725 section 3.1). */
export const signingAlgorithms = ['EdDSA', 'ES256', 'RS256'] as const;
/** HS256 only verifies tokens between parties that share an imported secret; it is never made here and never published. */
export const algorithms = [...signingAlgorithms, 'HS256'] as const;
export type Algorithm = (typeof algorithms)[number];

export type VerificationKey = { readonly kid: string; readonly alg: Algorithm; readonly key: CryptoKey | Uint8Array };

/** The keys that access tokens are verified with. */
export interface VerificationKeys {
  find(kid: string): VerificationKey | undefined;
}

/**
 * Keys from a JWK set that is at hand.
 * @throws {Error} when a key lacks `kid` or has an `alg` other than {@link algorithms}.
 */
export async function fixedKeys(set: { keys: readonly JWK[] }): Promise<VerificationKeys> {
  const keys = new Map<string, VerificationKey>();
  for (const jwk of set.keys) {
    const alg = algorithms.find((known) => known === jwk.alg);
    if (!jwk.kid || !alg) throw new Error(`a key of the set lacks "kid" or has an "alg" other than ${algorithms.join(', ')}`);
    keys.set(jwk.kid, { kid: jwk.kid, alg, key: await importJWK(jwk, alg) });
  }
  return { find: (kid) => keys.get(kid) };
}
