import assert from 'node:assert/strict';
import { test } from 'node:test';
import { exportJWK, generateKeyPair, type JWK } from 'jose';
import { fixedKeys } from '../src/index.ts';

const publicJwk = async (alg: string, kid: string): Promise<JWK> => ({
  ...(await exportJWK((await generateKeyPair(alg, { extractable: true })).publicKey)),
  alg,
  kid,
});
const secret = { kty: 'oct', alg: 'HS256', kid: 'shared', k: Buffer.alloc(32, 1).toString('base64url') };

test('a set is found by kid, each key with its own algorithm', async () => {
  const set = [await publicJwk('EdDSA', 'a'), await publicJwk('ES256', 'b'), await publicJwk('PS256', 'c'), secret];
  const keys = await fixedKeys({ keys: set });
  for (const { kid = '', alg } of set) {
    const key = keys.find(kid);
    assert.deepEqual([key?.kid, key?.alg], [kid, alg]);
    assert.equal(keys.find(kid), key, 'the same one each time, which is how a remembered token knows its key');
  }
  for (const kid of ['', 'd', 'A', '__proto__', 'constructor']) assert.equal(keys.find(kid), undefined);
});

test('a key that could not verify, or that more than its owner could sign with, stops the start', async () => {
  const good = await publicJwk('EdDSA', 'a');
  const { privateKey } = await generateKeyPair('EdDSA', { extractable: true });
  const { kid: _kid, ...nameless } = good;
  const { alg: _alg, ...free } = good;
  const mistakes: [what: string, key: JWK][] = [
    ['no kid', nameless],
    ['no alg', free],
    ['alg none', { ...good, alg: 'none' }],
    ['alg RS512', { ...good, alg: 'RS512' }],
    ['alg of another kind of key', { ...good, alg: 'ES256' }],
    ['alg HS256 for a public key', { ...good, alg: 'HS256' }],
    ['alg PS384', { ...(await publicJwk('PS256', 'ps')), alg: 'PS384' }],
    ['alg PS256 for a curve', { ...good, alg: 'PS256' }],
    ['a secret for PS256', { ...secret, alg: 'PS256' }],
    ['a secret for EdDSA', { ...secret, alg: 'EdDSA' }],
    ['a secret of 31 bytes', { ...secret, k: Buffer.alloc(31, 1).toString('base64url') }],
    ['a private key', { ...(await exportJWK(privateKey)), alg: 'EdDSA', kid: 'private' }],
    ['RSA of 1024 bits', { kty: 'RSA', alg: 'RS256', kid: 'small', e: 'AQAB', n: Buffer.alloc(128, 0xab).toString('base64url') }],
    ['RSA of 1024 bits for PS256', { kty: 'RSA', alg: 'PS256', kid: 'small', e: 'AQAB', n: Buffer.alloc(128, 0xab).toString('base64url') }],
    ['RSA of 16,384 bits', { kty: 'RSA', alg: 'RS256', kid: 'dear', e: 'AQAB', n: Buffer.alloc(2_048, 0xab).toString('base64url') }],
    ['RSA with a long exponent', { ...(await publicJwk('RS256', 'dear')), e: Buffer.alloc(200, 0xff).toString('base64url') }],
    ['RSA with the exponent 1', { ...(await publicJwk('RS256', 'open')), e: 'AQ' }],
    ['a name that is taken', { ...(await publicJwk('ES256', 'a')) }],
  ];
  for (const [what, key] of mistakes) await assert.rejects(fixedKeys({ keys: [good, key] }), Error, what);
});
