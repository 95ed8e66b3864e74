import assert from 'node:assert/strict';
import { createHash, generateKeyPairSync, type KeyObject } from 'node:crypto';
import { test, type TestContext } from 'node:test';
import { accessTokens, manualClock } from '@portcullis/guard';
import { calculateJwkThumbprint, type JWK } from 'jose';
import { keyRing } from '../src/domain/key/key-ring.ts';
import { importedKey, makeKey, openPrivateJwk } from '../src/domain/key/key-material.ts';
import { keyState, LONGEST_ACCESS_TOKEN_MS, PUBLISHED_BEFORE_USE_MS, type StoredKey } from '../src/domain/key/key.ts';
import { accessTokenMint } from '../src/domain/token/access-token.ts';
import { ensureSigningKey, importKey, removeGoneKeys, rotateKey } from '../src/flows/keep-keys.ts';
import { sqliteStore } from '../src/storage/sql/sql-store.ts';

const SECRET = 'the master secret of this server';
const DAY = LONGEST_ACCESS_TOKEN_MS;
const at0 = { createdAt: 0, activeFrom: 0 };

async function setUp(t: TestContext) {
  const store = sqliteStore(':memory:');
  t.after(() => store.close());
  await store.migrate();
  const clock = manualClock();
  const ring = keyRing({ keys: store.keys, clock, secrets: [SECRET] });
  const on = { clock, keys: store.keys, together: store.together };
  return { store, clock, ring, on, auditCount: async () => (await store.audit.list({ limit: 100 })).length };
}

const pem = (key: KeyObject, type: 'pkcs8' | 'pkcs1' | 'sec1'): string => key.export({ format: 'pem', type });
const jwk = (key: KeyObject, more: object = {}): string => JSON.stringify({ ...key.export({ format: 'jwk' }), ...more });
const secretBytes = (bytes: number): Buffer => Buffer.from(Array.from({ length: bytes }, (_, i) => (i * 7) % 256));
const secretOf = (bytes: number): string => JSON.stringify({ kty: 'oct', k: secretBytes(bytes).toString('base64url') });

const ed = generateKeyPairSync('ed25519');
const p256 = generateKeyPairSync('ec', { namedCurve: 'P-256' });
const rsa = generateKeyPairSync('rsa', { modulusLength: 2048 });

test("a key's state follows from the times alone", () => {
  const key = (kid: string, activeFrom: number): StoredKey => ({
    kid,
    alg: 'EdDSA',
    origin: 'made',
    createdAt: 0,
    activeFrom,
    publicJwk: '{}',
    sealedPrivateJwk: '',
    compromisedAt: undefined,
  });
  const all = [key('a', 1_000), key('b', 2_000), key('c', 2_000), key('d', 3 * DAY)];
  const states: [now: number, a: string, b: string, c: string, d: string][] = [
    [999, 'next', 'next', 'next', 'next'],
    [1_000, 'active', 'next', 'next', 'next'],
    [1_999, 'active', 'next', 'next', 'next'],
    [2_000, 'retired', 'retired', 'active', 'next'], // of two at the same time, one signs: on every instance the same
    [2_000 + DAY - 1, 'retired', 'retired', 'active', 'next'],
    [2_000 + DAY, 'gone', 'gone', 'active', 'next'],
    [3 * DAY, 'gone', 'gone', 'retired', 'active'],
    [4 * DAY - 1, 'gone', 'gone', 'retired', 'active'],
    [4 * DAY, 'gone', 'gone', 'gone', 'active'],
    [400 * DAY, 'gone', 'gone', 'gone', 'active'], // the last one is never too old to sign
  ];
  for (const [now, ...expected] of states) {
    assert.deepEqual(
      all.map((one) => keyState(one, all, now)),
      expected,
      `at ${now}`,
    );
    assert.deepEqual(
      all.toReversed().map((one) => keyState(one, all.toReversed(), now)),
      expected.toReversed(),
      `at ${now}, listed the other way`,
    );
  }
});

test('a shared secret is one key, however it is spelled: zeros at its end say nothing to HMAC, and a long one is its hash', async (t) => {
  const { on } = await setUp(t);
  const secret = secretBytes(40);
  const long = secretBytes(80);
  const spellings = (bytes: Buffer) => JSON.stringify({ kty: 'oct', k: bytes.toString('base64url') });
  await importKey(on, spellings(secret), SECRET);
  await importKey(on, spellings(long), SECRET);
  for (const same of [
    Buffer.concat([secret, Buffer.alloc(1)]),
    Buffer.concat([secret, Buffer.alloc(24)]),
    createHash('sha256').update(long).digest(),
  ])
    await assert.rejects(importKey(on, spellings(same), SECRET), { code: 'key_present' });
});

test('keys of every form that operators have can be brought, and sign', async (t) => {
  const forms: [form: string, text: string, alg: string][] = [
    ['Ed25519, PKCS #8', pem(ed.privateKey, 'pkcs8'), 'EdDSA'],
    ['Ed25519, JWK', jwk(ed.privateKey), 'EdDSA'],
    ['P-256, PKCS #8', pem(p256.privateKey, 'pkcs8'), 'ES256'],
    ['P-256, SEC 1', pem(p256.privateKey, 'sec1'), 'ES256'],
    ['P-256, JWK', jwk(p256.privateKey), 'ES256'],
    ['RSA, PKCS #8', pem(rsa.privateKey, 'pkcs8'), 'RS256'],
    ['RSA, PKCS #1', pem(rsa.privateKey, 'pkcs1'), 'RS256'],
    ['RSA, JWK', jwk(rsa.privateKey), 'RS256'],
    ['RSA, JWK that says RS256', jwk(rsa.privateKey, { alg: 'RS256' }), 'RS256'],
    ['RSA, JWK that says PS256', jwk(rsa.privateKey, { alg: 'PS256' }), 'PS256'],
    ['a secret of 32 bytes', secretOf(32), 'HS256'],
    [
      'a secret broken into lines',
      JSON.stringify({
        kty: 'oct',
        k: secretBytes(32)
          .toString('base64url')
          .replace(/(.{8})/g, '$1\n'),
      }),
      'HS256',
    ],
    ['blanks around a PEM', `\n\n${pem(ed.privateKey, 'pkcs8')}\n\n`, 'EdDSA'],
    [
      'what another program wrote into a JWK',
      jwk(ed.privateKey, { kid: 'mine', alg: 'EdDSA', use: 'sig', key_ops: ['sign'], ext: true }),
      'EdDSA',
    ],
  ];
  for (const [form, text, alg] of forms) {
    const { on, ring, clock } = await setUp(t);
    const { kid } = await importKey(on, text, SECRET, { at: 'once' });
    await ring.load();
    assert.deepEqual([ring.active().kid, ring.active().alg], [kid, alg], form);
    const token = await accessTokenMint({ keyRing: ring, clock, issuer: 'https://i.example', audience: 'a', ttlMs: 900_000 }).mint(
      { id: 'usr_1', username: 'ada', createdAt: 0, disabledAt: undefined, isDemo: false },
      { id: 'ses_1', expiresAt: clock.now() + DAY, authenticatedAt: clock.now() },
      clock.now(),
    );
    assert.equal(
      (await accessTokens({ issuer: 'https://i.example', audience: 'a', keys: ring, clock }).read(token.text)).userId,
      'usr_1',
      form,
    );
  }
});

test('what is no such key is refused as unusable, and nothing is stored', async (t) => {
  const { on, store, auditCount } = await setUp(t);
  const encrypted = ed.privateKey.export({ format: 'pem', type: 'pkcs8', cipher: 'aes-256-cbc', passphrase: 'x' });
  const other = generateKeyPairSync('ed25519').publicKey.export({ format: 'jwk' });
  const otherPoint = generateKeyPairSync('ec', { namedCurve: 'P-256' }).publicKey.export({ format: 'jwk' });
  const refused: [what: string, text: string][] = [
    ['nothing', ''],
    ['a word', 'secret'],
    ['JSON null', 'null'],
    ['a list', '[]'],
    ['an empty object', '{}'],
    ['a set of keys', `{"keys":[${jwk(ed.privateKey)}]}`],
    ['a public PEM', ed.publicKey.export({ format: 'pem', type: 'spki' })],
    ['a public JWK', jwk(ed.publicKey)],
    ['a public RSA PEM', rsa.publicKey.export({ format: 'pem', type: 'pkcs1' })],
    ['an encrypted PEM', encrypted],
    ['half a PEM', pem(ed.privateKey, 'pkcs8').slice(0, 60)],
    ['a PEM of garbage', '-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n'],
    ['a certificate', '-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n'],
    ['RSA of 1024 bits', pem(generateKeyPairSync('rsa', { modulusLength: 1024 }).privateKey, 'pkcs8')],
    ['RSA for PSS alone', pem(generateKeyPairSync('rsa-pss', { modulusLength: 2048 }).privateKey, 'pkcs8')],
    ['P-384', pem(generateKeyPairSync('ec', { namedCurve: 'P-384' }).privateKey, 'sec1')],
    ['secp256k1', jwk(generateKeyPairSync('ec', { namedCurve: 'secp256k1' }).privateKey)],
    ['X25519', jwk(generateKeyPairSync('x25519').privateKey)],
    ['Ed448', jwk(generateKeyPairSync('ed448').privateKey)],
    ['a secret of 31 bytes', secretOf(31)],
    ['a secret that is a number', '{"kty":"oct","k":12345678901234567890123456789012345}'],
    ['a secret that is a list', `{"kty":"oct","k":[${Array(40).fill(7).join()}]}`],
    ['no secret', '{"kty":"oct"}'],
    ['a secret of one byte over and over', JSON.stringify({ kty: 'oct', k: Buffer.alloc(32).toString('base64url') })],
    ['Ed25519 with the public half of another', jwk(ed.privateKey, { x: other.x })],
    ['P-256 with the public half of another', jwk(p256.privateKey, { x: otherPoint.x, y: otherPoint.y })],
    ['RSA with an exponent that is not its own', jwk(rsa.privateKey, { e: 'Aw' })],
    ['a JWK for another algorithm', jwk(rsa.privateKey, { alg: 'RS512' })],
    ['a curve that says PS256', jwk(p256.privateKey, { alg: 'PS256' })],
    ['a JWK for encryption', jwk(rsa.privateKey, { use: 'enc' })],
  ];
  for (const [what, text] of refused) {
    await assert.rejects(importKey(on, text, SECRET), { name: 'Problem', code: 'key_unusable' }, what);
    assert.deepEqual(await store.keys.list(), [], what);
  }
  assert.equal(await auditCount(), 0);
});

test('the same key twice is one key', async (t) => {
  const { on, store, auditCount } = await setUp(t);
  const { kid } = await importKey(on, pem(ed.privateKey, 'pkcs8'), SECRET);
  for (const text of [pem(ed.privateKey, 'pkcs8'), jwk(ed.privateKey)])
    await assert.rejects(importKey(on, text, SECRET), { code: 'key_present', reason: undefined });
  assert.deepEqual(
    (await store.keys.list()).map((key) => key.kid),
    [kid],
  );
  assert.equal(await auditCount(), 1);
});

test('a kid is the thumbprint of RFC 7638; that of a shared secret tells nothing of it', async () => {
  for (const { privateKey, publicKey } of [ed, p256, rsa]) {
    assert.equal(
      (await importedKey(jwk(privateKey), SECRET, at0)).kid,
      await calculateJwkThumbprint(publicKey.export({ format: 'jwk' }) as JWK),
    ); // Node's type for a JWK is wider than jose's
  }
  const made = await makeKey('ES256', SECRET, at0);
  assert.equal(made.kid, await calculateJwkThumbprint(JSON.parse(made.publicJwk ?? '')));

  const shared = await importedKey(secretOf(32), SECRET, at0);
  assert.match(shared.kid, /^hs_[\w-]{22}$/);
  assert.equal(shared.kid.includes((await calculateJwkThumbprint(JSON.parse(secretOf(32)))).slice(0, 8)), false);
  assert.equal(shared.publicJwk, undefined);
});

test('what is stored and what is published has no private member in clear', async (t) => {
  const { on, store, ring } = await setUp(t);
  const keys = [jwk(ed.privateKey), jwk(p256.privateKey), jwk(rsa.privateKey), secretOf(32)];
  for (const text of keys) await importKey(on, text, SECRET, { at: 'once' });
  for (const alg of ['EdDSA', 'ES256', 'RS256', 'PS256'] as const) await rotateKey(on, alg, SECRET, { by: 'operator' });
  await ring.load();

  const stored = JSON.stringify(await store.keys.list());
  const published = JSON.stringify(ring.jwks());
  for (const text of keys) {
    const { d, p, q, dp, dq, qi, k } = JSON.parse(text);
    for (const member of [d, p, q, dp, dq, qi, k].filter(Boolean)) assert.ok(!stored.includes(member) && !published.includes(member));
  }
  assert.equal(ring.jwks().keys.length, 7, 'all but the shared secret');
  for (const one of ring.jwks().keys) {
    assert.deepEqual(
      Object.keys(one).filter((name) => !['kty', 'crv', 'x', 'y', 'n', 'e', 'kid', 'alg', 'use'].includes(name)),
      [],
    );
    assert.equal(one.kid, await calculateJwkThumbprint(one));
  }
});

test('no name of a key that is made here looks like an option', async () => {
  const kids = await Promise.all(Array.from({ length: 300 }, async () => (await makeKey('EdDSA', SECRET, at0)).kid));
  assert.deepEqual(
    kids.filter((kid) => kid.startsWith('-')),
    [],
  );
});

test('under another master secret a key does not open, and loading says so', async (t) => {
  const { on, store, clock } = await setUp(t);
  const key = await rotateKey(on, 'EdDSA', SECRET, { by: 'operator', at: 'once' });
  assert.equal(openPrivateJwk(key, SECRET)?.kid, key.kid);
  assert.equal(openPrivateJwk(key, 'another secret'), undefined);
  assert.equal(openPrivateJwk({ ...key, kid: 'another' }, SECRET), undefined, 'a seal moved to another key');
  await assert.rejects(
    keyRing({ keys: store.keys, clock, secrets: ['another secret'] }).load(),
    /the master secret does not open the key .*not the one that this store was made with/,
  );
});

test('a key is published before it signs, verifies while its tokens live, and then is gone', async (t) => {
  const { on, store, ring, clock } = await setUp(t);
  await ensureSigningKey(on, 'EdDSA', SECRET);
  await ensureSigningKey(on, 'EdDSA', SECRET);
  await ring.load();
  const old = ring.active().kid;
  assert.equal((await store.keys.list()).length, 1, 'made once');

  const { kid: next } = await rotateKey(on, 'EdDSA', SECRET, { by: 'operator' });
  await ring.load();
  const published = (): string[] =>
    ring
      .jwks()
      .keys.map(({ kid = '' }) => kid)
      .toSorted();
  const both = [old, next].toSorted();
  assert.deepEqual([ring.active().kid, published(), ring.find(next)?.kid], [old, both, next], 'published, and it verifies already');

  clock.advance(PUBLISHED_BEFORE_USE_MS - 1);
  assert.equal(ring.active().kid, old);
  clock.advance(1);
  assert.deepEqual([ring.active().kid, published(), ring.find(old)?.kid], [next, both, old]);

  clock.advance(DAY - 1);
  assert.equal(ring.find(old)?.kid, old);
  clock.advance(1);
  assert.deepEqual([ring.active().kid, published(), ring.find(old)], [next, [next], undefined]);

  await removeGoneKeys(on);
  await ring.load();
  assert.deepEqual(
    (await store.keys.list()).map(({ kid }) => kid),
    [next],
  );
  assert.deepEqual([ring.active().kid, ring.find(next)?.kid, ring.find('__proto__')], [next, next, undefined]);
});

test('another algorithm in the settings makes the next key, and leaves a brought one alone', async (t) => {
  const { on, store } = await setUp(t);
  await ensureSigningKey(on, 'EdDSA', SECRET);
  await ensureSigningKey(on, 'ES256', SECRET);
  await ensureSigningKey(on, 'ES256', SECRET);
  assert.deepEqual(
    (await store.keys.list()).map(({ alg }) => alg),
    ['EdDSA', 'ES256'],
  );

  const brought = await setUp(t);
  await importKey(brought.on, jwk(rsa.privateKey), SECRET, { at: 'once' });
  await ensureSigningKey(brought.on, 'EdDSA', SECRET);
  assert.deepEqual(
    (await brought.store.keys.list()).map(({ alg }) => alg),
    ['RS256'],
  );
});

test('where no key signs yet, as after a clock that was ahead, one is made that does', async (t) => {
  const { on, clock } = await setUp(t);
  await on.keys.add(await makeKey('EdDSA', SECRET, { createdAt: 0, activeFrom: clock.now() + DAY }));
  await ensureSigningKey(on, 'EdDSA', SECRET);
  const all = await on.keys.list();
  assert.deepEqual(all.map((key) => keyState(key, all, clock.now())).toSorted(), ['active', 'next']);
});
