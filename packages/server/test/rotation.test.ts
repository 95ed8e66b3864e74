import assert from 'node:assert/strict';
import { generateKeyPairSync } from 'node:crypto';
import { suite, test, type TestContext } from 'node:test';
import { accessTokens, type Clock, fixedKeys, manualClock, signingAlgorithms } from '@portcullis/guard';
import fc from 'fast-check';
import { keyRing } from '../src/domain/key/key-ring.ts';
import { type KeyState, keyState, type StoredKey } from '../src/domain/key/key.ts';
import { rotationDue } from '../src/domain/key/rotation.ts';
import { accessTokenMint } from '../src/domain/token/access-token.ts';
import { ensureSigningKey, importKey, removeGoneKeys, rotateKey, rotateWhenDue } from '../src/flows/keep-keys.ts';
import { sqliteStore } from '../src/storage/sql/sql-store.ts';

const SECRET = 'the master secret of this server';
const MINUTE = 60_000;
const HOUR = 60 * MINUTE;
const DAY = 24 * HOUR;
const EVERY = 30 * DAY;
/** The `max-age` of the JWK set. */
const MAX_AGE = 5 * MINUTE;

type ManualClock = ReturnType<typeof manualClock>;

async function setUp(t: TestContext, clock: Clock & Partial<ManualClock> = manualClock()) {
  const store = sqliteStore(':memory:');
  t.after(() => store.close());
  await store.migrate();
  const ring = keyRing({ keys: store.keys, clock, secrets: [SECRET] });
  const on = { clock, keys: store.keys, together: store.together };
  const tick = async (alg: (typeof signingAlgorithms)[number] = 'EdDSA', every: number | undefined = EVERY): Promise<void> => {
    await rotateWhenDue(on, alg, SECRET, every);
    await ring.load();
  };
  const states = async (): Promise<string[]> => {
    const all = await store.keys.list();
    return all.map((key) => keyState(key, all, clock.now()));
  };
  return { store, ring, on, tick, states, advance: (ms: number) => clock.advance?.(ms) };
}

suite('a verifier that keeps the JWK set for its max-age refuses no good token, over three rotations', () => {
  for (const alg of signingAlgorithms) {
    test(alg, async (t) => {
      const clock = manualClock();
      const { ring, on, tick } = await setUp(t, clock);
      await ensureSigningKey(on, alg, SECRET);
      await tick(alg, DAY);
      const mint = accessTokenMint({ keyRing: ring, clock, issuer: 'https://i.example', audience: 'a', ttlMs: 15 * MINUTE });
      const user = { id: 'usr_1', username: 'ada', createdAt: 0, disabledAt: undefined, isDemo: false };
      const session = () => ({ id: 'ses_1', expiresAt: clock.now() + DAY, authenticatedAt: clock.now() });
      /** Those whose set is not older than its max-age. */
      const verifiers: { at: number; read: (token: string) => unknown }[] = [];
      const tokens: { text: string; expiresAt: number }[] = [];
      const kids = new Set<string>();
      let verified = 0;

      // Close looks where a key begins to sign, wide steps between.
      const isNear = (ms: number): boolean => Math.min(ms % DAY, DAY - (ms % DAY)) < 20 * MINUTE;
      const startedAt = clock.now();
      const fetchSet = async (): Promise<void> => {
        const keys = await fixedKeys(JSON.parse(JSON.stringify(ring.jwks())));
        const { read } = accessTokens({ issuer: 'https://i.example', audience: 'a', keys, clock });
        verifiers.push({ at: clock.now(), read });
      };
      while (clock.now() - startedAt < 3 * DAY + HOUR) {
        await fetchSet(); // as the last one before a key is made
        await tick(alg, DAY);
        await fetchSet();
        while (verifiers[0] && verifiers[0].at < clock.now() - MAX_AGE) verifiers.shift();
        const { text } = await mint.mint(user, session(), clock.now());
        kids.add(ring.active().kid);
        tokens.push({ text, expiresAt: clock.now() + 15 * MINUTE });
        while (tokens[0] && tokens[0].expiresAt <= clock.now()) tokens.shift();
        // The oldest set meets the newest token, and the newest set the oldest token.
        for (const [verifier, token] of [
          [verifiers[0], tokens.at(-1)],
          [verifiers.at(-1), tokens[0]],
        ] as const) {
          await verifier?.read(token?.text ?? ''); // throws what it refuses
          verified += 1;
        }
        clock.advance(isNear(clock.now() - startedAt) ? 2.5 * MINUTE : 20 * MINUTE);
      }
      assert.equal(kids.size, 4);
      assert.ok(verified > 400, `${verified}`);
    });
  }
});

test('the next key is made within the hour before it is due, once, and signs when it is due', async (t) => {
  const clock = manualClock();
  const { on, tick, states, store, ring } = await setUp(t, clock);
  await ensureSigningKey(on, 'EdDSA', SECRET);
  const due = clock.now() + EVERY;
  clock.advance(EVERY - HOUR - 1);
  await tick();
  assert.deepEqual(await states(), ['active']);
  clock.advance(1);
  await Promise.all(Array.from({ length: 10 }, () => tick('ES256')));
  assert.deepEqual(await states(), ['active', 'next'], 'of ten that look at once, one makes it');
  const [, next] = await store.keys.list();
  assert.deepEqual([next?.activeFrom, next?.alg], [due, 'ES256']);
  assert.deepEqual(ring.states(), { next: 1, active: 1, retired: 0, gone: 0, compromised: 0 });
  const [entry] = await store.audit.list({ limit: 1 });
  assert.deepEqual([entry?.action, entry?.by, entry?.reason], ['key_made', 'server', `ES256 ${next?.kid}`]);

  for (let i = 0; i < 70; i += 1) {
    await tick();
    clock.advance(MINUTE);
  }
  assert.deepEqual(await states(), ['retired', 'active']);
});

test('two processes whose clocks differ make one next key', async (t) => {
  const clock = manualClock();
  const { on, states } = await setUp(t, clock);
  await ensureSigningKey(on, 'EdDSA', SECRET);
  clock.advance(2 * EVERY);
  const early = { ...on, clock: { now: () => clock.now() - 3_000 } };
  await Promise.all([on, early, on, early].map((one) => rotateWhenDue(one, 'EdDSA', SECRET, EVERY)));
  assert.deepEqual(await states(), ['active', 'next']);
});

test('a server that was down when a key was due makes it when it is back, published for ten minutes before it signs', async (t) => {
  const clock = manualClock();
  const { on, tick, states, store } = await setUp(t, clock);
  await ensureSigningKey(on, 'EdDSA', SECRET);
  clock.advance(3 * EVERY);
  await tick();
  const [, next] = await store.keys.list();
  assert.equal(next?.activeFrom, clock.now() + 10 * MINUTE);
  for (let i = 0; i < 5; i += 1) await tick();
  assert.deepEqual(await states(), ['active', 'next']);
});

test("what an operator has made next is the next one; what he imported stays until he brings another; 'never' is never", async (t) => {
  const clock = manualClock();
  const { on, tick, states, store } = await setUp(t, clock);
  await ensureSigningKey(on, 'EdDSA', SECRET);
  clock.advance(EVERY - 5 * MINUTE);
  const byHand = await rotateKey(on, 'EdDSA', SECRET, { by: 'operator' });
  await tick();
  assert.deepEqual(await states(), ['active', 'next']);
  clock.advance(10 * MINUTE);
  await tick();
  assert.deepEqual(await states(), ['retired', 'active']);
  assert.equal(rotationDue(await store.keys.list(), clock.now(), EVERY), byHand.activeFrom + EVERY);

  clock.advance(1); // of two keys of one moment the greater name signs
  const pem = generateKeyPairSync('ed25519').privateKey.export({ format: 'pem', type: 'pkcs8' }).toString();
  await importKey(on, pem, SECRET, { at: 'once' });
  clock.advance(3 * EVERY);
  await tick();
  assert.deepEqual(await states(), ['gone', 'gone', 'active']);
  assert.equal(rotationDue(await store.keys.list(), clock.now(), EVERY), undefined);

  const other = await setUp(t, clock);
  await ensureSigningKey(other.on, 'EdDSA', SECRET);
  clock.advance(400 * DAY);
  await rotateWhenDue(other.on, 'EdDSA', SECRET, undefined);
  assert.deepEqual(await other.states(), ['active']);
});

test('whatever clocks do at restarts, and whatever operators do between: one key signs, and keys do not pile up', async (t) => {
  const act = fc.oneof(
    fc.record({ do: fc.constant('pass' as const), ms: fc.integer({ min: 0, max: 40 * DAY }) }),
    fc.record({ do: fc.constant('restart' as const), ms: fc.integer({ min: -400 * DAY, max: 400 * DAY }) }),
    fc.record({ do: fc.constant('rotate' as const), once: fc.boolean() }),
  );
  await fc.assert(
    fc.asyncProperty(fc.array(act, { maxLength: 12 }), async (acts) => {
      let now = Date.UTC(2026, 0, 1);
      const { on, ring, tick, store } = await setUp(t, { now: () => now });
      const settle = async (): Promise<void> => {
        for (let i = 0; i < 3; i += 1) await tick();
        await removeGoneKeys(on);
        await ring.load();
      };
      const start = async (): Promise<void> => {
        await ensureSigningKey(on, 'EdDSA', SECRET);
        await settle();
      };
      await start();
      let allowed = 2; // the first one and its successor
      for (const one of acts) {
        if (one.do === 'rotate') await rotateKey(on, 'EdDSA', SECRET, { by: 'operator', ...(one.once && { at: 'once' }) });
        else now += one.ms;
        allowed += one.do === 'pass' ? 1 : 2;
        await (one.do === 'restart' ? start() : settle());
        assert.ok(ring.active().kid);
        assert.equal(countOf(await store.keys.list(), now, 'active'), 1);
      }
      const made = (await store.audit.list({ limit: 1_000, action: 'key_made' })).length;
      assert.ok(made <= allowed, `${made} keys for ${acts.length} acts`);
    }),
    { numRuns: 40 },
  );
});

const countOf = (all: readonly StoredKey[], now: number, state: KeyState): number =>
  all.filter((key) => keyState(key, all, now) === state).length;
