import assert from 'node:assert/strict';
import { createPrivateKey, createPublicKey, generateKeyPairSync, KeyObject, sign } from 'node:crypto';
import { test } from 'node:test';
import fc from 'fast-check';
import { CompactSign, type CryptoKey, exportJWK, generateKeyPair, generateSecret } from 'jose';
import { type Algorithm, algorithms, signingAlgorithms } from '../src/index.ts';
import { isSigned } from '../src/signature.ts';

// The forgeries one by one are in test/vectors; here jose signs, which shares nothing with what checks.

type Keys = { readonly sign: CryptoKey | Uint8Array; readonly verify: CryptoKey | Uint8Array };
const secret = Buffer.alloc(32, 'a secret of one’s own');

const pairs = new Map<Algorithm, Keys>([['HS256', { sign: secret, verify: secret }]]);
for (const alg of signingAlgorithms) {
  const { publicKey, privateKey } = await generateKeyPair(alg, { extractable: true });
  pairs.set(alg, { sign: privateKey, verify: publicKey });
}
function keysOf(alg: Algorithm): Keys {
  const keys = pairs.get(alg);
  assert.ok(keys);
  return keys;
}
const tokenOf = (alg: string, key: CryptoKey | Uint8Array, text = '{}'): Promise<string> =>
  new CompactSign(Buffer.from(text)).setProtectedHeader({ alg }).sign(key);
const subtleKey = (of: KeyObject, algorithm: object, usages: string[] = ['verify']): CryptoKey =>
  of.toCryptoKey(algorithm as Parameters<KeyObject['toCryptoKey']>[0], true, usages as Parameters<KeyObject['toCryptoKey']>[2]);

for (const alg of algorithms) {
  test(`${alg}: what jose signs is signed, and nothing else of the same form is`, async () => {
    const keys = keysOf(alg);
    const token = await tokenOf(alg, keys.sign, JSON.stringify({ sub: 'usr_1' }));
    const start = token.lastIndexOf('.') + 1;
    const [signed, signature] = [token.slice(0, start), Buffer.from(token.slice(start), 'base64url')];
    const isGood = (bytes: Uint8Array, text = signed): boolean | undefined =>
      isSigned(text + Buffer.from(bytes).toString('base64url'), alg, keys.verify);
    assert.equal(isGood(signature), true);
    assert.equal(isGood(signature, signed.replace('.', 'A.')), false);
    fc.assert(
      fc.property(fc.nat(signature.length * 8 - 1), (bit) => {
        const changed = Buffer.from(signature);
        changed.writeUInt8(changed.readUInt8(bit >> 3) ^ (1 << (bit & 7)), bit >> 3);
        return isGood(changed) === false;
      }),
      { numRuns: 200 },
    );
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 600 }), (bytes) => isGood(bytes) === false),
      { numRuns: 300 },
    );
    for (const bytes of [signature.subarray(1), signature.subarray(0, -1), Buffer.concat([Buffer.alloc(1), signature]), Buffer.alloc(0)])
      assert.equal(isGood(bytes), false, `${bytes.length} bytes`);
  });

  test(`${alg}: no key of another algorithm is fit, whatever it signed`, async () => {
    for (const other of algorithms.filter((name) => name !== alg)) {
      const keys = keysOf(other);
      const token = await tokenOf(other, keys.sign);
      assert.equal(isSigned(token, other, keys.verify), true);
      assert.equal(isSigned(token, alg, keys.verify), undefined, `a key for ${other}`);
      assert.equal(isSigned(token, other, keys.verify), true, 'and being asked so leaves it as it was');
    }
  });
}

test('a key of the right kind, but for another hash, curve, use, or half, is not fit', async () => {
  const rsa = generateKeyPairSync('rsa', { modulusLength: 2_048 });
  const p384 = generateKeyPairSync('ec', { namedCurve: 'P-384' });
  const small = generateKeyPairSync('rsa', { modulusLength: 1_024 });
  const [ed, hmac512] = [generateKeyPairSync('ed25519'), await generateSecret('HS512')];
  const unfit: [what: string, alg: Algorithm, key: unknown][] = [
    ['SHA-512', 'RS256', subtleKey(rsa.publicKey, { name: 'RSASSA-PKCS1-v1_5', hash: 'SHA-512' })],
    ['SHA-1', 'PS256', subtleKey(rsa.publicKey, { name: 'RSA-PSS', hash: 'SHA-1' })],
    ['for encryption', 'RS256', subtleKey(rsa.publicKey, { name: 'RSA-OAEP', hash: 'SHA-256' }, ['encrypt'])],
    ['1024 bits', 'RS256', subtleKey(small.publicKey, { name: 'RSASSA-PKCS1-v1_5', hash: 'SHA-256' })],
    ['1024 bits', 'PS256', subtleKey(small.publicKey, { name: 'RSA-PSS', hash: 'SHA-256' })],
    ['P-384', 'ES256', subtleKey(p384.publicKey, { name: 'ECDSA', namedCurve: 'P-384' })],
    ['private', 'EdDSA', subtleKey(ed.privateKey, { name: 'Ed25519' }, ['sign'])],
    ['no use', 'EdDSA', subtleKey(ed.publicKey, { name: 'Ed25519' }, [])],
    ['another hash', 'HS256', hmac512],
    ['31 bytes', 'HS256', secret.subarray(1)],
    ['empty', 'HS256', new Uint8Array()],
    ['a secret for a curve', 'ES256', secret],
    ['no key of ours', 'EdDSA', await exportJWK(ed.publicKey)],
    ['looks like one', 'EdDSA', { algorithm: { name: 'Ed25519' }, type: 'public', usages: ['verify'] }],
  ];
  for (const [what, alg, key] of unfit) {
    const token = `e30.e30.${Buffer.alloc(64).toString('base64url')}`;
    // whatever somebody's own keys hand over, despite the type
    for (const time of ['first', 'second'])
      assert.equal(isSigned(token, alg, key as CryptoKey), undefined, `${alg}, ${what}, ${time} time`);
  }
});

test('an RSA key that is dear to check with, or with which anybody can sign, is not fit', () => {
  const n = Buffer.alloc(384, 0xc3).fill(0x0b, 383);
  const keyOf = (modulus: Buffer, exponent: Buffer): CryptoKey =>
    subtleKey(
      createPublicKey({ key: { kty: 'RSA', n: modulus.toString('base64url'), e: exponent.toString('base64url') }, format: 'jwk' }),
      { name: 'RSASSA-PKCS1-v1_5', hash: 'SHA-256' },
    );
  const fit = (modulus: Buffer, ...exponent: number[]): boolean => {
    const token = `e30.e30.${Buffer.alloc(modulus.length, 1).toString('base64url')}`;
    return isSigned(token, 'RS256', keyOf(modulus, Buffer.from(exponent))) !== undefined;
  };
  assert.ok(fit(n, 3) && fit(n, 1, 0, 1) && fit(n, 0, 1, 0, 1) && fit(n, 0xff, 0xff, 0xff, 0xff));
  assert.ok(!fit(n, 1) && !fit(n, 4) && !fit(n, 1, 0, 0, 0, 1) && !fit(n, ...Buffer.alloc(383, 0xff)));
  assert.ok(!fit(Buffer.alloc(1_032, 0xc3).fill(0x0b, 1_031), 1, 0, 1), '8256 bits');
});

test('a secret that its owner has wiped or changed is not kept', async () => {
  const own = Buffer.from(secret);
  const token = await tokenOf('HS256', own);
  assert.equal(isSigned(token, 'HS256', own), true);
  own.fill(1);
  assert.equal(isSigned(token, 'HS256', own), false);
});

test('a key that cannot be exported verifies like any other', async () => {
  for (const alg of signingAlgorithms) {
    const { publicKey, privateKey } = await generateKeyPair(alg);
    assert.equal(isSigned(await tokenOf(alg, privateKey), alg, publicKey), true, alg);
  }
  const shared = await generateSecret('HS256');
  assert.ok('usages' in shared && !shared.extractable);
  assert.equal(isSigned(await tokenOf('HS256', shared), 'HS256', shared), true, 'HS256');
});

test('an ES256 signature in the form of other protocols, DER, is none', async () => {
  const keys = keysOf('ES256');
  const key = createPrivateKey({ key: await exportJWK(keys.sign), format: 'jwk' });
  const text = 'e30.e30';
  for (let i = 0; i < 20; i++)
    assert.equal(isSigned(`${text}.${sign('sha256', Buffer.from(text), key).toString('base64url')}`, 'ES256', keys.verify), false);
});

test('what is no key at all is not fit, and no fault of the server', () => {
  for (const key of ['-----BEGIN PUBLIC KEY-----', undefined, null, {}]) assert.equal(isSigned('a.b.c', 'EdDSA', key as never), undefined);
});
