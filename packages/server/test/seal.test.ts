import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { deriveKey, hmac, isSame, seal, sha256, unseal } from '../src/lib/seal.ts';

const key = deriveKey('a master secret', 'a test');

test('each purpose has a key of its own, the same at every start', () => {
  assert.equal(
    deriveKey('a master secret', 'signing key').toString('hex'),
    '2eb166bc0e3a70ad557d945b0b51e06fc9a3a35aa171de903549c908b439ecc3',
  ); // worked out by hand from RFC 5869
  assert.equal(key.length, 32);
  assert.notDeepEqual(deriveKey('a master secret', 'another test'), key);
  assert.notDeepEqual(deriveKey('another master secret', 'a test'), key);
  assert.deepEqual(deriveKey(Buffer.from('a master secret'), 'a test'), key, 'a text counts as its bytes');
});

test('the digests are the ones of the standards', () => {
  assert.equal(sha256('abc'), 'ungWv48Bz-pBQUDeXa4iI7ADYaOWF3qctBD_YfIAFa0'); // FIPS 180-2, appendix B.1
  assert.equal(
    hmac(Buffer.from('Jefe'), 'what do ya want for nothing?').toString('hex'),
    '5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843',
  ); // RFC 4231, section 4.3
});

test('what is sealed opens again, for any text', () => {
  fc.assert(
    fc.property(fc.string({ unit: 'grapheme' }), fc.string(), (plain, context) => {
      assert.equal(unseal(key, seal(key, plain, context), context), plain);
    }),
  );
});

test('a seal opens under no other key and in no other place, and says nothing of what is in it', () => {
  const sealed = seal(key, 'a private key', 'kid 1');
  assert.equal(unseal(deriveKey('another master secret', 'a test'), sealed, 'kid 1'), undefined);
  assert.equal(unseal(key, sealed, 'kid 2'), undefined);
  assert.equal(unseal(key, sealed, ''), undefined);
  assert.ok(!Buffer.from(sealed, 'base64url').includes('private'));
});

test('the same text never has the same seal twice', () => {
  const seals = Array.from({ length: 1_000 }, () => seal(key, 'the same', 'place'));
  assert.equal(new Set(seals).size, seals.length);
  assert.equal(
    new Set(seals.map((sealed) => Buffer.from(sealed, 'base64url').toString('hex', 0, 12))).size,
    seals.length,
    'nor the same nonce',
  );
});

test('a changed seal does not open: not one bit of it, not cut, not longer', () => {
  const sealed = Buffer.from(seal(key, 'a private key', 'kid 1'), 'base64url');
  for (let bit = 0; bit < sealed.length * 8; bit += 1) {
    const changed = Buffer.from(sealed);
    changed.writeUInt8(changed.readUInt8(bit >> 3) ^ (1 << (bit & 7)), bit >> 3);
    assert.equal(unseal(key, changed.toString('base64url'), 'kid 1'), undefined, `bit ${bit}`);
  }
  for (let length = 0; length < sealed.length; length += 1)
    assert.equal(unseal(key, sealed.toString('base64url', 0, length), 'kid 1'), undefined, `${length} bytes`);
  assert.equal(unseal(key, Buffer.concat([sealed, Buffer.alloc(1)]).toString('base64url'), 'kid 1'), undefined);
});

test('any text is no seal', () => {
  fc.assert(
    fc.property(fc.oneof(fc.string(), fc.base64String({ minLength: 40 })), (text) => assert.equal(unseal(key, text, 'kid 1'), undefined)),
  );
});

test('two secrets are compared by all of their bytes', () => {
  const [a, b] = [Buffer.from('0123'), Buffer.from('0124')];
  assert.equal(isSame(a, Buffer.from(a)), true);
  assert.equal(isSame(a, b), false);
  assert.equal(isSame(a, a.subarray(0, 3)), false);
  assert.equal(isSame(Buffer.alloc(0), a), false);
});
