import assert from 'node:assert/strict';
import { generateKeyPairSync } from 'node:crypto';
import { test, type TestContext } from 'node:test';
import { accessTokens, manualClock } from '@portcullis/guard';
import { keyRing } from '../src/domain/key/key-ring.ts';
import { keyState, type Keys } from '../src/domain/key/key.ts';
import { accessTokenMint } from '../src/domain/token/access-token.ts';
import { askedSessions } from '../src/domain/session/asked-sessions.ts';
import { compromiseKey } from '../src/flows/compromise-key.ts';
import { ensureSigningKey, importKey, removeGoneKeys, rotateKey, rotateWhenDue } from '../src/flows/keep-keys.ts';
import { sqliteStore } from '../src/storage/sql/sql-store.ts';

const SECRET = 'the master secret of this server';
const DAY = 86_400_000;
const shared = JSON.stringify({ kty: 'oct', k: Buffer.from(Array.from({ length: 32 }, (_, i) => i * 7)).toString('base64url') });

async function setUp(t: TestContext) {
  const store = sqliteStore(':memory:');
  t.after(() => store.close());
  await store.migrate();
  const clock = manualClock();
  const ring = keyRing({ keys: store.keys, clock, secrets: [SECRET] });
  const on = { clock, keys: store.keys, together: store.together, revoked: askedSessions({ sessions: store.sessions, keys: store.keys }) };
  const tokens = accessTokens({ issuer: 'https://i.example', audience: 'a', keys: ring, clock });
  const minting = accessTokenMint({ keyRing: ring, clock, issuer: 'https://i.example', audience: 'a', ttlMs: 900_000 });
  const user = { id: 'usr_1', username: 'ada', createdAt: 0, disabledAt: undefined, isDemo: false };
  let asked = 0;
  return {
    store,
    clock,
    ring,
    on,
    secretsAsked: () => asked,
    compromise: async (kid: string, reason?: string) => {
      const done = await compromiseKey(on, kid, {
        reason,
        alg: 'ES256',
        masterSecret: () => {
          asked += 1;
          return Promise.resolve(SECRET);
        },
      });
      await ring.load();
      return done;
    },
    mint: async () =>
      (await minting.mint(user, { id: 'ses_1', expiresAt: clock.now() + 9 * DAY, authenticatedAt: clock.now() }, clock.now())).text,
    codeOf: async (token: string): Promise<string> => {
      try {
        return (await tokens.read(token)).userId;
      } catch (error) {
        return Object(error).code;
      }
    },
    states: async (): Promise<Record<string, string>> => {
      const all = await store.keys.list();
      return Object.fromEntries(all.map((key) => [key.kid, keyState(key, all, clock.now())]));
    },
    acts: async () => (await store.audit.list({ limit: 100 })).map(({ action, by, reason }) => `${action} by ${by}: ${reason}`).toSorted(),
    publishedKids: () => ring.jwks().keys.map(({ kid }) => kid),
  };
}

test('the key that signs: its tokens die, remembered ones too, and a new key of its kind signs in the same commit', async (t) => {
  const { on, ring, store, clock, compromise, mint, codeOf, states, acts, publishedKids } = await setUp(t);
  await ensureSigningKey(on, 'EdDSA', SECRET);
  await ring.load();
  const old = ring.active().kid;
  clock.advance(5 * DAY);
  const [seen, unseen] = [await mint(), await mint()];
  assert.equal(await codeOf(seen), 'usr_1');

  const { replacedBy, compromisedAt } = await compromise(old, 'found in a paste\n');
  assert.deepEqual([await codeOf(seen), await codeOf(unseen)], ['token_key_gone', 'token_key_gone']);
  const fresh = await mint();
  assert.equal(await codeOf(fresh), 'usr_1');
  assert.deepEqual([replacedBy?.alg, replacedBy?.kid, compromisedAt], ['EdDSA', ring.active().kid, clock.now()]);
  assert.deepEqual(publishedKids(), [ring.active().kid]);
  assert.deepEqual(await states(), { [old]: 'compromised', [ring.active().kid]: 'active' });
  assert.deepEqual(ring.states(), { next: 0, active: 1, retired: 0, gone: 0, compromised: 1 });
  assert.deepEqual(await acts(), [
    `key_compromised by operator: EdDSA ${old}: found in a paste\\u{a}`,
    `key_made by operator: EdDSA ${ring.active().kid}`,
    `key_made by server: EdDSA ${old}`,
  ]);
  const [row] = (await store.keys.list()).filter(({ kid }) => kid === old);
  assert.deepEqual([row?.sealedPrivateJwk, row?.publicJwk], ['', undefined]);

  // For good: a forged token can carry any exp, and housekeeping takes the row not away.
  clock.advance(400 * DAY);
  await removeGoneKeys(on);
  await ring.load();
  assert.equal(await codeOf(unseen), 'token_key_gone');
});

test('done twice it is the same, and says so', async (t) => {
  const { on, ring, clock, compromise, states, acts } = await setUp(t);
  await ensureSigningKey(on, 'EdDSA', SECRET);
  await ring.load();
  const { kid } = ring.active();
  const first = await compromise(kid);
  const before = [await states(), await acts()];
  clock.advance(1_000);
  assert.deepEqual(await compromise(kid), { ...first, replacedBy: undefined });
  assert.deepEqual([await states(), await acts()], before);
});

test('of ten operators one makes the replacement', async (t) => {
  const { on, ring, compromise, states } = await setUp(t);
  await ensureSigningKey(on, 'EdDSA', SECRET);
  await ring.load();
  const { kid } = ring.active();
  const done = await Promise.all(Array.from({ length: 10 }, () => compromise(kid)));
  assert.equal(done.filter(({ replacedBy }) => replacedBy).length, 1);
  assert.deepEqual(Object.values(await states()).toSorted(), ['active', 'compromised']);
});

test('a next key: nothing signs in its place, the active one goes on, and the schedule makes another', async (t) => {
  const { on, ring, clock, compromise, states, mint, codeOf, secretsAsked } = await setUp(t);
  await ensureSigningKey(on, 'EdDSA', SECRET);
  await ring.load();
  const token = await mint();
  const active = ring.active().kid;
  clock.advance(30 * DAY - 3_000_000);
  const next = await rotateKey(on, 'EdDSA', SECRET, { by: 'server' });
  const { replacedBy } = await compromise(next.kid);
  assert.deepEqual([replacedBy, secretsAsked()], [undefined, 0]);
  assert.deepEqual(await states(), { [active]: 'active', [next.kid]: 'compromised' });
  await rotateWhenDue(on, 'EdDSA', SECRET, 30 * DAY);
  assert.deepEqual(Object.values(await states()).toSorted(), ['active', 'compromised', 'next']);
  clock.advance(DAY);
  await ring.load();
  assert.equal(await codeOf(token), 'token_expired', 'and not gone');
});

test('the active key beside a next one: the next one stays next', async (t) => {
  const { on, ring, clock, compromise, states } = await setUp(t);
  await ensureSigningKey(on, 'RS256', SECRET);
  await ring.load();
  const old = ring.active().kid;
  const next = await rotateKey(on, 'EdDSA', SECRET, { by: 'operator' });
  const { replacedBy } = await compromise(old);
  assert.equal(replacedBy?.alg, 'RS256');
  assert.deepEqual(await states(), { [old]: 'compromised', [ring.active().kid]: 'active', [next.kid]: 'next' });
  clock.advance(600_000);
  assert.equal(ring.active().kid, next.kid);
});

test('a retired key: its last tokens die, and nothing else changes', async (t) => {
  const { on, ring, compromise, states, mint, codeOf, secretsAsked } = await setUp(t);
  await ensureSigningKey(on, 'EdDSA', SECRET);
  await ring.load();
  const token = await mint();
  const old = ring.active().kid;
  const { kid } = await rotateKey(on, 'EdDSA', SECRET, { by: 'operator', at: 'once' });
  await ring.load();
  // Two keys of one moment: the greater name signs. Whichever it is, the other one has retired.
  const [active, retired] = ring.active().kid === kid ? [kid, old] : [old, kid];
  const { replacedBy } = await compromise(retired);
  assert.deepEqual([replacedBy, secretsAsked(), ring.active().kid], [undefined, 0, active]);
  assert.deepEqual(await states(), { [active]: 'active', [retired]: 'compromised' });
  assert.equal(await codeOf(token), retired === old ? 'token_key_gone' : 'usr_1');
});

test('a shared secret is replaced by a key of the setting; what was imported is never imported again', async (t) => {
  const { on, ring, compromise, store, states } = await setUp(t);
  const { kid } = await importKey(on, shared, SECRET);
  await ring.load();
  const { replacedBy, alg } = await compromise(kid);
  assert.deepEqual([alg, replacedBy?.alg, replacedBy?.origin], ['HS256', 'ES256', 'made']);

  const pem = generateKeyPairSync('ed25519').privateKey.export({ format: 'pem', type: 'pkcs8' }).toString();
  const imported = await importKey(on, pem, SECRET, { at: 'once' });
  await ring.load();
  await compromise(imported.kid);
  const before = await states();
  for (const text of [shared, pem])
    await assert.rejects(importKey(on, text, SECRET, { at: 'once' }), { code: 'key_present', reason: 'compromised' });
  assert.deepEqual(await states(), before);
  assert.equal((await store.keys.list()).filter(({ sealedPrivateJwk }) => sealedPrivateJwk === '').length, 2);
});

test('a key that nobody knows is a problem, and changes nothing', async (t) => {
  const { on, compromise, acts, states, ring } = await setUp(t);
  await ensureSigningKey(on, 'EdDSA', SECRET);
  await ring.load();
  const before = [await states(), await acts()];
  for (const kid of ['', 'nobody', '__proto__', `${ring.active().kid} `]) await assert.rejects(compromise(kid), { code: 'key_unknown' });
  assert.deepEqual([await states(), await acts()], before);
});

test('a moment before, on a clock that is ahead or behind: there is no time at which no key signs', async (t) => {
  for (const skew of [-DAY, -1_000, 1_000, DAY]) {
    const { on, ring, clock, states, mint } = await setUp(t);
    await ensureSigningKey(on, 'EdDSA', SECRET);
    await ring.load();
    const { kid } = ring.active();
    const desk = { ...on, clock: { now: () => clock.now() + skew } };
    const { replacedBy } = await compromiseKey(desk, kid, { alg: 'EdDSA', masterSecret: () => Promise.resolve(SECRET) });
    await ring.load();
    assert.equal(ring.active().kid, replacedBy?.kid, `${skew}`);
    assert.ok(await mint());
    assert.deepEqual(Object.values(await states()).toSorted(), ['active', 'compromised']);
  }
});

test('a reading of the store that began earlier never brings a compromised key back', async (t) => {
  const { store, clock, on } = await setUp(t);
  await ensureSigningKey(on, 'EdDSA', SECRET);
  const [row] = await store.keys.list();
  let letGo = (): void => {};
  const slow = new Promise<void>((done) => (letGo = done));
  const lists: Keys['list'][] = [
    () => store.keys.list(),
    async () => {
      const before = await store.keys.list();
      await slow;
      return before;
    },
    () => store.keys.list(),
  ];
  const ring = keyRing({ keys: { ...store.keys, list: () => (lists.shift() ?? store.keys.list)() }, clock, secrets: [SECRET] });
  await ring.load();
  const earlier = ring.load();
  await compromiseKey(on, row?.kid ?? '', { alg: 'EdDSA', masterSecret: () => Promise.resolve(SECRET) });
  await ring.load();
  assert.equal(ring.find(row?.kid ?? '')?.key, 'compromised');
  letGo();
  await earlier;
  assert.equal(ring.find(row?.kid ?? '')?.key, 'compromised');
});
