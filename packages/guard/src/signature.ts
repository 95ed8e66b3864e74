import { constants, createHmac, KeyObject, timingSafeEqual, verify } from 'node:crypto';
import { types } from 'node:util';
import type { CryptoKey } from 'jose';
import { type Algorithm, isRsaFit } from './keys.ts';

/**
 * Whether a token is signed by this key, by the one algorithm that the key is for. Worked out at once, on the thread that asks: every
 * key that is fit takes less of it than to hand the work to another.
 * @param token three parts of canonical base64url.
 * @returns `undefined` where the key is not fit for the algorithm, so that no signature could be good.
 */
export function isSigned(token: string, alg: Algorithm, key: CryptoKey | Uint8Array): boolean | undefined {
  const check = checkOf(alg, key);
  if (!check) return undefined;
  const end = token.lastIndexOf('.');
  return check(Buffer.from(token.slice(0, end), 'latin1'), Buffer.from(token.slice(end + 1), 'base64url'));
}

type Check = (signed: Uint8Array, signature: Uint8Array) => boolean;

/** By RFC 7518 section 3 and RFC 8037, each with its one encoding, hash and length of salt. */
const checks: Readonly<Record<Algorithm, (key: KeyObject) => Check>> = {
  EdDSA: (key) => (signed, signature) => verify(null, signed, key, signature),
  ES256(key) {
    const by = { key, dsaEncoding: 'ieee-p1363' } as const;
    return (signed, signature) => signature.length === 64 && verify('sha256', signed, by, signature);
  },
  RS256(key) {
    const by = { key, padding: constants.RSA_PKCS1_PADDING };
    return (signed, signature) => verify('sha256', signed, by, signature);
  },
  PS256(key) {
    const by = { key, padding: constants.RSA_PKCS1_PSS_PADDING, saltLength: 32 };
    return (signed, signature) => verify('sha256', signed, by, signature);
  },
  HS256: hmacCheck,
};

function hmacCheck(key: KeyObject | Uint8Array): Check {
  return (signed, signature) => {
    const mac = createHmac('sha256', key).update(signed).digest();
    return signature.length === mac.length && timingSafeEqual(mac, signature);
  };
}

function checkOf(alg: Algorithm, key: CryptoKey | Uint8Array): Check | undefined {
  // Nothing of a shared secret is kept: whoever owns the bytes may wipe them.
  if (key instanceof Uint8Array) return alg === 'HS256' && key.length >= 32 ? hmacCheck(key) : undefined;
  if (!types.isCryptoKey(key)) return undefined; // whatever its type says
  let made = checksOfKeys.get(key);
  if (!made) checksOfKeys.set(key, (made = checkOfKey(key)));
  return made.alg === alg ? made.check : undefined;
}

type KeyCheck = { readonly alg: Algorithm; readonly check: Check } | { readonly alg: undefined };

/** A `CryptoKey` never changes, so it is looked at once. */
const checksOfKeys = new WeakMap<CryptoKey, KeyCheck>();

function checkOfKey(key: CryptoKey): KeyCheck {
  const alg = algorithmOf(key);
  if (!alg || !key.usages.includes('verify') || key.type !== (alg === 'HS256' ? 'secret' : 'public')) return { alg: undefined };
  return { alg, check: checks[alg](KeyObject.from(key)) };
}

/** What the Web Cryptography API says of the kinds of key that are ours. */
type KeyFacts = {
  readonly name: string;
  readonly hash?: { readonly name: string };
  readonly namedCurve?: string;
  /** Of a secret, in bits. */
  readonly length?: number;
  /** Of an RSA key, in bits. */
  readonly modulusLength?: number;
  readonly publicExponent?: Uint8Array;
};

/** The one algorithm that a key is for, by its own word; never by a token's. */
function algorithmOf(key: CryptoKey): Algorithm | undefined {
  const { name, hash, namedCurve, length = 0, modulusLength = 0, publicExponent } = key.algorithm as KeyFacts;
  if (name === 'Ed25519') return 'EdDSA';
  if (name === 'ECDSA') return namedCurve === 'P-256' ? 'ES256' : undefined;
  if (hash?.name !== 'SHA-256') return undefined;
  if (name === 'HMAC') return length >= 256 ? 'HS256' : undefined;
  if (!publicExponent || !isRsaFit(modulusLength, publicExponent)) return undefined;
  return name === 'RSASSA-PKCS1-v1_5' ? 'RS256' : name === 'RSA-PSS' ? 'PS256' : undefined;
}
