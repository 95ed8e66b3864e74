import { constants, createHmac, createPrivateKey, createPublicKey, type KeyObject, sign } from 'node:crypto';
import { readFileSync } from 'node:fs';

/** How one access token is made, by what it has of a good one and what not, and what must be said of it. */
export type Vector = {
  readonly name: string;
  /** The key that the header names; it signs too, unless `signedBy` is another. */
  readonly key?: KeyName;
  readonly signedBy?: KeyName;
  /** Put over the good members. `{ "now": -60 }` as a value is a time, in seconds from now. */
  readonly header?: Members;
  readonly claims?: Members;
  readonly without?: readonly string[];
  /** The whole JSON text instead, where `$header` and `$claims` stand for the good members without their braces. */
  readonly headerText?: string;
  readonly claimsText?: string;
  readonly charset?: 'latin1';
  readonly signature?: keyof typeof signatures;
  /** How the parts become the token; `$H $P $S` are the same bytes with the unused bits of the last character set. */
  readonly text?: string;
  /** What the verifier's clock says, in milliseconds from the token's now. */
  readonly clockMs?: number;
} & ({ readonly accepted: true } | { readonly code: string; readonly reason?: string });

export type KeyName = 'EdDSA' | 'ES256' | 'RS256' | 'PS256' | 'HS256' | 'compromised' | 'stranger';
export type PrivateJwk = { readonly [member in 'kty' | 'kid' | 'alg']: string } & { readonly [member in 'crv' | 'x' | 'y' | 'd' | 'n' | 'e' | 'k']?: string | undefined };
type Members = Readonly<Record<string, unknown>>;

const read = (file: string): any => JSON.parse(readFileSync(new URL(file, import.meta.url), 'utf8')); // our own files

/** Known to everyone: good for nothing but these tests. RS256 and PS256 are one RSA key by two names; the stranger is in no verifier's set. */
export const keys: Readonly<Record<KeyName, PrivateJwk>> = read('./keys.json');

/** All of them: those that are written down one by one, and each claim with each value that it cannot have. */
export const vectors: readonly Vector[] = (() => {
  const { list, wrongValues, missing } = read('./access-tokens.json');
  const rows: Vector[] = [...list];
  for (const claim of missing) rows.push({ name: `${claim} missing`, without: [claim], code: 'token_invalid', reason: claim });
  for (const { claims, values } of wrongValues) {
    for (const claim of claims) for (const value of values) rows.push({ name: `${claim} is ${JSON.stringify(value)}`, claims: { [claim]: value }, code: 'token_invalid', reason: claim });
  }
  return rows;
})();

export const publicJwk = ({ kid, alg, kty, crv, x, y, n, e, k }: PrivateJwk): PrivateJwk => ({ kid, alg, kty, crv, x, y, n, e, ...(kty === 'oct' && { k }) });

/** Makes the token of a vector, from claims that are good now and keys of one's own choice. No library of the product's is in it. */
export function forge(vector: Vector, good: { claims: Members; nowS: number; keys: Readonly<Record<KeyName, PrivateJwk>> }): string {
  const key = good.keys[vector.key ?? 'EdDSA'];
  const goodHeader = { alg: key.alg, typ: 'at+jwt', kid: key.kid };
  const bytesOf = (text: string | undefined, base: Members, patch: Members = {}): Buffer => {
    const kept = Object.entries({ ...base, ...patch }).filter(([name]) => !vector.without?.includes(name));
    const timed = kept.map(([name, value]) => [name, isTime(value) ? good.nowS + value.now : value]);
    const whole = text === undefined ? JSON.stringify(Object.fromEntries(timed)) : fill(text);
    return Buffer.from(whole, vector.charset ?? 'utf8');
  };
  const fill = (text: string): string => text
    .replace('$header', () => JSON.stringify(goodHeader).slice(1, -1)).replace('$claims', () => JSON.stringify(good.claims).slice(1, -1))
    .replace('$stranger', () => JSON.stringify(publicJwk(good.keys.stranger))).replace('$kid', key.kid)
    .replace('$deep', () => '['.repeat(1_000) + ']'.repeat(1_000)).replace('$long', () => 'A'.repeat(4_096));

  const h = withSpare(bytesOf(vector.headerText, goodHeader, vector.header), vector.text?.includes('$H'));
  const p = withSpare(bytesOf(vector.claimsText, good.claims, vector.claims), vector.text?.includes('$P'));
  const signer = good.keys[vector.signedBy ?? vector.key ?? 'EdDSA'];
  const signed = signatures[vector.signature ?? 'good'](`${base64url(h)}.${base64url(p)}`, signer);
  const parts: Record<string, string> = { h: base64url(h), p: base64url(p), s: base64url(signed), b: signed.toString('base64'), c: p.toString(), t: h.toString() };
  return (vector.text ?? '$h.$p.$s').replace(/\$([hpsbct])/gi, (_, name: string) => parts[name] ?? respelled(parts[name.toLowerCase()] ?? ''));
}

const base64url = (bytes: Uint8Array): string => Buffer.from(bytes).toString('base64url');
const isTime = (value: unknown): value is { now: number } => typeof value === 'object' && value !== null && 'now' in value;

/** Blanks at the end, until the last character of its base64url has unused bits. */
const withSpare = (bytes: Buffer, wanted = false): Buffer => (wanted && bytes.length % 3 === 0 ? Buffer.concat([bytes, Buffer.from(' ')]) : bytes);

const alphabet = 'ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_';
const respelled = (part: string): string => part.slice(0, -1) + alphabet[alphabet.indexOf(part.slice(-1)) + 1];

const privateKey = (jwk: PrivateJwk): KeyObject => createPrivateKey({ key: jwk, format: 'jwk' });
const publicKey = (jwk: PrivateJwk): KeyObject => createPublicKey({ key: publicJwk(jwk), format: 'jwk' });
const hmac = (secret: string | Uint8Array, data: string, hash = 'sha256'): Buffer => createHmac(hash, secret).update(data).digest();

function goodSignature(data: string, jwk: PrivateJwk): Buffer {
  if (jwk.kty === 'oct') return hmac(Buffer.from(jwk.k ?? '', 'base64url'), data);
  if (jwk.alg === 'PS256') return pss(32)(data, jwk);
  return sign(jwk.kty === 'OKP' ? null : 'sha256', Buffer.from(data), { key: privateKey(jwk), dsaEncoding: 'ieee-p1363' });
}

/** RSASSA-PSS with a salt of so many bytes; PS256 has as many as its hash (RFC 7518 section 3.5). */
const pss = (saltLength: number, hash = 'sha256', key = privateKey) => (data: string, jwk: PrivateJwk): Buffer =>
  sign(hash, Buffer.from(data), { key: key(jwk), padding: constants.RSA_PKCS1_PSS_PADDING, saltLength });

/** The same RSA key, but for PSS with another hash inside its mask (MGF1). */
const otherMask = ({ n, e, d, p, q, dp, dq, qi }: PrivateJwk & { readonly [member in 'p' | 'q' | 'dp' | 'dq' | 'qi']?: string }): KeyObject => {
  const der = createPrivateKey({ key: { kty: 'RSA', n, e, d, p, q, dp, dq, qi }, format: 'jwk' }).export({ format: 'der', type: 'pkcs1' });
  const sha = (last: number): Buffer => derOf(0x30, Buffer.from([0x06, 0x09, 0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, last]));
  const mgf1 = derOf(0x30, Buffer.from('06092a864886f70d010108', 'hex'), sha(3)); // MGF1 with SHA-512
  const parameters = derOf(0x30, derOf(0xa0, sha(1)), derOf(0xa1, mgf1), derOf(0xa2, Buffer.from([0x02, 0x01, 0x20])));
  const algorithm = derOf(0x30, Buffer.from('06092a864886f70d01010a', 'hex'), parameters); // id-RSASSA-PSS
  return createPrivateKey({ key: derOf(0x30, Buffer.from([0x02, 0x01, 0x00]), algorithm, derOf(0x04, der)), format: 'der', type: 'pkcs8' });
};

function derOf(tag: number, ...parts: Buffer[]): Buffer {
  const body = Buffer.concat(parts);
  const size = body.length < 0x80 ? [body.length] : [0x82, body.length >> 8, body.length & 0xff];
  return Buffer.concat([Buffer.from([tag, ...size]), body]);
}

const signatures = {
  'good': goodSignature,
  'empty': () => Buffer.alloc(0),
  'zeros': (data, jwk) => goodSignature(data, jwk).fill(0),
  'ones': (data, jwk) => goodSignature(data, jwk).fill(0xff),
  'first bit flipped': (data, jwk) => flipped(goodSignature(data, jwk), 0, 0x80),
  'last bit flipped': (data, jwk) => flipped(goodSignature(data, jwk), -1, 0x01),
  'one byte short': (data, jwk) => goodSignature(data, jwk).subarray(0, -1),
  'one byte more': (data, jwk) => Buffer.concat([goodSignature(data, jwk), Buffer.alloc(1)]),
  'twice': (data, jwk) => Buffer.concat([goodSignature(data, jwk), goodSignature(data, jwk)]),
  'of another token': (data, jwk) => goodSignature(`${data}x`, jwk),
  'of the claims alone': (data, jwk) => goodSignature(data.split('.')[1] ?? '', jwk),
  'of the header and nothing': (data, jwk) => goodSignature(`${data.split('.')[0]}.`, jwk),

  // The public key taken for a shared secret (RFC 8725 section 2.1)
  'HMAC by the public PEM': (data, jwk) => hmac(publicKey(jwk).export({ format: 'pem', type: 'spki' }), data),
  'HMAC by the public DER': (data, jwk) => hmac(publicKey(jwk).export({ format: 'der', type: 'spki' }), data),
  'HMAC by the public JWK': (data, jwk) => hmac(JSON.stringify(publicJwk(jwk)), data),
  'HMAC by the raw public key': (data, jwk) => hmac(Buffer.from(jwk.x ?? jwk.n ?? '', 'base64url'), data),
  'HMAC by nothing': (data) => hmac('', data),
  'HMAC-SHA512': (data, jwk) => hmac(Buffer.from(jwk.k ?? '', 'base64url'), data, 'sha512'),

  // Another algorithm by the right key
  'PSS': pss(32),
  'PSS without salt': pss(0),
  'PSS with a salt of 20 bytes': pss(20),
  'PSS with a salt of 64 bytes': pss(64),
  'PSS with the longest salt': pss(constants.RSA_PSS_SALTLEN_MAX_SIGN),
  'PSS by SHA-384': pss(32, 'sha384'),
  'PSS by SHA-512': pss(64, 'sha512'),
  'PSS masked by SHA-512': pss(32, 'sha256', otherMask),
  'PKCS #1': (data, jwk) => sign('sha256', Buffer.from(data), privateKey(jwk)),
  'SHA-512': (data, jwk) => sign('sha512', Buffer.from(data), { key: privateKey(jwk), dsaEncoding: 'ieee-p1363' }),
  'SHA-1': (data, jwk) => sign('sha1', Buffer.from(data), privateKey(jwk)),
  'DER': (data, jwk) => sign('sha256', Buffer.from(data), privateKey(jwk)),

  // The other number that fits the same signature
  'n - s': (data, jwk) => halves(goodSignature(data, jwk), (r, s) => [r, P256_ORDER - s]),
  'r = s = n': (data, jwk) => halves(goodSignature(data, jwk), () => [P256_ORDER, P256_ORDER]),
  'r = s = 1': (data, jwk) => halves(goodSignature(data, jwk), () => [1n, 1n]),
  'S + L': (data, jwk) => Buffer.from(halves(Buffer.from(goodSignature(data, jwk).toReversed()), (s, r) => [s + ED25519_ORDER, r]).toReversed()),
  'the neutral point': (data, jwk) => goodSignature(data, jwk).fill(0).fill(1, 0, 1),
} satisfies Record<string, (data: string, jwk: PrivateJwk) => Buffer>;

const P256_ORDER = 0xffffffff00000000ffffffffffffffffbce6faada7179e84f3b9cac2fc632551n;
const ED25519_ORDER = 2n ** 252n + 27742317777372353535851937790883648493n;

function flipped(bytes: Buffer, at: number, bit: number): Buffer {
  const changed = Buffer.from(bytes);
  changed.writeUInt8(changed.readUInt8(at < 0 ? bytes.length + at : at) ^ bit, at < 0 ? bytes.length + at : at);
  return changed;
}

/** The two numbers of 32 bytes that such a signature is, big end first. */
function halves(bytes: Buffer, change: (first: bigint, second: bigint) => [bigint, bigint]): Buffer {
  const numbers = change(BigInt(`0x${bytes.toString('hex', 0, 32)}`), BigInt(`0x${bytes.toString('hex', 32)}`));
  return Buffer.from(numbers.map((number) => number.toString(16).padStart(64, '0')).join(''), 'hex');
}
