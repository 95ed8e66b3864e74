import assert from 'node:assert/strict';
import { after, before, describe, test, type TestContext } from 'node:test';
import { systemClock } from '@portcullis/guard';
import fc from 'fast-check';
import { askedSessions } from '../src/domain/session/asked-sessions.ts';
import type { Ended } from '../src/domain/session/session.ts';
import { openSharedRedis } from '../src/open-redis.ts';
import { readSettings } from '../src/settings/read.ts';
import { sharedRevocations } from '../src/storage/redis/shared-revocations.ts';
import { sqliteStore, type SqlStore } from '../src/storage/sql/sql-store.ts';
import { until } from '../../../test/support/program.ts';
import { without } from '../../../test/support/needs.ts';
import { isRedisHere, type Redis, startRedis } from '../../../test/support/redis.ts';

const clock = systemClock();
const hour = 3_600_000;

/** A store with a user, in which sessions begin and end. */
async function openStore(t: TestContext) {
  const store = sqliteStore(':memory:');
  t.after(store.close);
  await store.migrate();
  const now = clock.now();
  await store.users.add({ id: 'usr_1', username: 'ada', createdAt: now, disabledAt: undefined, isDemo: false });
  await store.credentials.setPassword('usr_1', 'hash', now);
  let nth = 0;
  return {
    store,
    async begin(): Promise<string> {
      const id = `ses_${++nth}`;
      const at = clock.now();
      const times = { createdAt: at, authenticatedAt: at, expiresAt: at + hour, accessUntil: at + hour };
      assert.equal(await store.sessions.add({ id, userId: 'usr_1', ...times, tokenHash: id, address: '', userAgent: '' }, 1), 'added');
      return id;
    },
    async end(id: string): Promise<Ended[]> {
      const ended = await store.sessions.end(id, 'logout', clock.now());
      return ended ? [ended] : [];
    },
  };
}

/** One of the processes that share the store and a Redis. */
async function openInstance(t: TestContext, store: SqlStore, redis: Redis) {
  let askedOfStore = 0;
  let keysLoaded = 0;
  const changes: boolean[] = [];
  const env = {
    PORTCULLIS_DATABASE_URL: 'postgres://me@127.0.0.1/none',
    PORTCULLIS_REDIS_URL: redis.url,
    PORTCULLIS_REDIS_TIMEOUT: '500 ms',
  };
  const reading = readSettings({ mode: 'admin', env, flags: {}, readFile: () => '' });
  if ('mistakes' in reading) throw new Error(reading.mistakes.join());
  const { settings } = reading;
  const shared = await openSharedRedis(settings, store);
  assert.ok(shared);
  const { link, ledger, run, whoIsIt, mayForget } = shared;
  t.after(link.close);
  const asked = askedSessions({
    sessions: {
      standing(id) {
        askedOfStore += 1;
        return store.sessions.standing(id);
      },
    },
    keys: store.keys,
    async onKeysChanged() {
      keysLoaded += 1;
      await Promise.resolve();
    },
  });
  const revocations = sharedRevocations({
    ledger,
    run: () => (mayForget() === undefined ? run() : undefined),
    whoIsIt,
    accessTokenTtlMs: hour,
    sessions: store.sessions,
    keys: store.keys,
    asked,
    clock,
    onChange: (isBelieved) => changes.push(isBelieved),
  });
  const up = async (): Promise<void> => {
    await until(async () => {
      await Promise.try(revocations.look).catch(() => {}); // a link that has just broken may not know it yet
      return link.isUp() && (mayForget() !== undefined || revocations.isBelieved());
    });
  };
  await up();
  return {
    ...revocations,
    claim: ledger.claim,
    up,
    changes,
    isUp: link.isUp,
    askedOfStore: () => askedOfStore,
    keysLoaded: () => keysLoaded,
  };
}

describe('sessions asked of Redis', { skip: without('Redis', isRedisHere) }, () => {
  let redis: Redis;
  before(async () => {
    redis = await startRedis();
  });
  after(() => redis.stop());

  const command = (...words: string[]): Promise<string> => redis.tell(...words);

  async function pair(t: TestContext) {
    const world = await openStore(t);
    const [one, other] = [await openInstance(t, world.store, redis), await openInstance(t, world.store, redis)];
    return { ...world, one, other };
  }

  test('one that ended on one instance has ended on the other, and the store is not asked for it', async (t) => {
    const { one, other, begin, end } = await pair(t);
    const [id, living] = [await begin(), await begin()];
    assert.equal(await other.isRevoked(id), false);
    await one.add(await end(id));
    assert.deepEqual([await one.isRevoked(id), await other.isRevoked(id), await other.isRevoked(living)], [true, true, false]);
    assert.deepEqual([one.askedOfStore(), other.askedOfStore()], [0, 0]);
    assert.deepEqual([one.isBelieved(), other.isBelieved()], [true, true]);
  });

  test('a Redis that has forgotten is not believed, and is told everything before it is again', async (t) => {
    const { one, other, begin, end } = await pair(t);
    const ids = await Promise.all(Array.from({ length: 20 }, begin));
    const gone = ids.slice(0, 10);
    for (const id of gone) await one.add(await end(id));
    await command('FLUSHALL');
    for (const id of ids) for (const instance of [one, other]) assert.equal(await instance.isRevoked(id), gone.includes(id));
    assert.ok(other.askedOfStore() > 0);
    await Promise.all([one.look(), other.look()]);
    const before = one.askedOfStore() + other.askedOfStore();
    for (const id of ids) assert.deepEqual([await one.isRevoked(id), await other.isRevoked(id)], [gone.includes(id), gone.includes(id)]);
    assert.equal(one.askedOfStore() + other.askedOfStore(), before);
    assert.deepEqual(other.changes, [true, false, true]);
  });

  test('what ended while Redis was away is not confirmed, is refused all the same, and is told once it is back', async (t) => {
    const { one, other, begin, end } = await pair(t);
    const [id, living] = [await begin(), await begin()];
    await redis.kill();
    const ended = await end(id);
    await assert.rejects(async () => one.add(ended), { code: 'revocation_pending' });
    for (const instance of [one, other]) assert.deepEqual([await instance.isRevoked(id), await instance.isRevoked(living)], [true, false]);
    await redis.start();
    await Promise.all([one.up(), other.up()]);
    const before = other.askedOfStore();
    assert.deepEqual([await other.isRevoked(id), await other.isRevoked(living)], [true, false]);
    assert.equal(other.askedOfStore(), before);
  });

  test('a Redis that comes back as it was a while ago is not believed either', async (t) => {
    const { one, other, begin, end } = await pair(t);
    const [id, living] = [await begin(), await begin()];
    await command('SAVE');
    await one.add(await end(id));
    await redis.kill();
    await redis.start();
    await Promise.all([one.up(), other.up()]);
    assert.deepEqual([await other.isRevoked(id), await other.isRevoked(living)], [true, false]);
  });

  test('what somebody ended who died before he could tell is found by any other', async (t) => {
    const { other, begin, end } = await pair(t);
    const id = await begin();
    await end(id);
    await other.look();
    assert.equal(await other.isRevoked(id), true);
    assert.equal(other.askedOfStore(), 0);
  });

  test('keys that have changed are read anew before a token is believed; one who could not tell is no harm for long', async (t) => {
    const { one, other, begin, store } = await pair(t);
    const id = await begin();
    const key = (kid: string) => ({
      kid,
      alg: 'EdDSA' as const,
      origin: 'made' as const,
      createdAt: 0,
      activeFrom: 0,
      publicJwk: undefined,
      sealedPrivateJwk: 'x',
      compromisedAt: undefined,
    });
    const loaded = other.keysLoaded();
    await store.keys.add(key('a'));
    await one.keysChanged();
    assert.equal(await other.isRevoked(id), false);
    assert.equal(other.keysLoaded(), loaded + 1);

    await store.keys.add(key('b'));
    await one.look();
    assert.equal(await other.isRevoked(id), false);
    assert.equal(other.keysLoaded(), loaded + 2);
    await other.look();
    const before = other.askedOfStore();
    assert.equal(await other.isRevoked(id), false);
    assert.equal(other.askedOfStore(), before, 'believed again');
    await store.keys.add(key('c'));
    await other.look();
    assert.equal(other.keysLoaded(), loaded + 3, 'before anybody asked');
  });

  test('a Redis that may throw away what still counts is never believed', async (t) => {
    const evicting = await startRedis({ maxmemory: '100mb', 'maxmemory-policy': 'volatile-lru' });
    t.after(evicting.stop);
    const { store, begin, end } = await openStore(t);
    const one = await openInstance(t, store, evicting);
    const id = await begin();
    assert.equal(one.isBelieved(), false);
    assert.equal(await one.isRevoked(id), false);
    await one.add(await end(id));
    assert.equal(await one.isRevoked(id), true);
  });

  test('one that begins to evict while it serves is not believed from the next look on, and is again once it does not', async (t) => {
    const { one, begin } = await pair(t);
    const id = await begin();
    t.after(() => redis.tell('config', 'set', 'maxmemory', '0'));
    await redis.tell('config', 'set', 'maxmemory', '100mb');
    await one.look();
    assert.equal(one.isBelieved(), true, 'it refuses writes when it is full');
    await redis.tell('config', 'set', 'maxmemory-policy', 'volatile-ttl');
    await one.look();
    assert.equal(one.isBelieved(), false);
    assert.equal(await one.isRevoked(id), false);
    await redis.tell('config', 'set', 'maxmemory-policy', 'noeviction');
    await one.look();
    assert.equal(one.isBelieved(), true);
  });

  test('a version that the database does not have is never taken up from Redis: it is given another generation', async (t) => {
    for (const version of ['99', '9007199254740993', '99999999999999999999', '0.1', '']) {
      const { one, other, begin, end, store } = await pair(t);
      const [id, gone] = [await begin(), await begin()];
      await one.add(await end(gone));
      const before = await store.keys.version();
      for (const key of (await redis.tell('keys', `*${(await store.number()).toString(36)}:generation:*`)).split('\n'))
        await redis.tell('set', key, `somebody.${version}`);
      for (const instance of [one, other]) assert.deepEqual([await instance.isRevoked(id), await instance.isRevoked(gone)], [false, true]);
      await Promise.all([one.up(), other.up()]);
      await Promise.all([one.up(), other.up()]);
      assert.equal(await store.keys.version(), before);
      const asked = one.askedOfStore();
      assert.deepEqual([await one.isRevoked(id), await one.isRevoked(gone)], [false, true]);
      assert.ok(one.askedOfStore() <= asked + 2);
    }
  });

  test('an answer is judged by what was believed when it was asked for, not by what is believed now', async (t) => {
    const { one, begin, end } = await pair(t);
    const id = await begin();
    await end(id); // nobody has told Redis
    const belief = one.belief();
    const said = { revoked: false, generation: belief?.generations[0], bucket: 0 };
    assert.equal(await one.judge(id, said, undefined), true);
    assert.equal(one.askedOfStore(), 1);
  });

  test(
    'whatever happens in whatever order: who was told that it has ended is right, on every instance',
    { timeout: 120_000 },
    async (t) => {
      const step = fc.oneof(
        { weight: 4, arbitrary: fc.record({ does: fc.constant('end' as const), by: fc.nat(1), told: fc.boolean() }) },
        { weight: 6, arbitrary: fc.record({ does: fc.constant('ask' as const), by: fc.nat(1) }) },
        { weight: 3, arbitrary: fc.record({ does: fc.constant('look' as const), by: fc.nat(1) }) },
        { weight: 2, arbitrary: fc.record({ does: fc.constant('keys' as const), by: fc.nat(1), told: fc.boolean() }) },
        { weight: 2, arbitrary: fc.constant({ does: 'flush' as const }) },
        { weight: 1, arbitrary: fc.constant({ does: 'save' as const }) },
        { weight: 1, arbitrary: fc.constant({ does: 'restart' as const }) },
      );
      await fc.assert(
        fc.asyncProperty(fc.array(fc.array(step, { minLength: 1, maxLength: 4 }), { minLength: 3, maxLength: 12 }), async (turns) => {
          const { one, other, begin, end, store } = await pair(t);
          const instances = [one, other];
          const living = await Promise.all(Array.from({ length: 12 }, begin));
          const told: string[] = [];
          const unsaid: string[] = []; // ended, and nobody was told that it is everywhere
          let keys = 0;
          let restarting: Promise<void> | undefined;
          const restart = (): Promise<void> =>
            (restarting ??= redis
              .kill()
              .then(redis.start)
              .finally(() => (restarting = undefined)));
          const ask = async (by: number): Promise<void> => {
            const sure = [...told];
            const instance = instances[by] ?? one;
            for (const id of sure) assert.equal(await instance.isRevoked(id), true, `${id} on ${by}`);
            const [id] = living;
            const isLiving = async () => !(await instance.isRevoked(id ?? '')) || !living.includes(id ?? '');
            if (id !== undefined) assert.equal(await isLiving(), true, `${id} lives`);
          };
          for (const turn of turns) {
            await Promise.all(
              turn
                .map(async (what) => {
                  if (what.does === 'ask') return ask(what.by);
                  if (what.does === 'look') return instances[what.by]?.look();
                  if (what.does === 'flush') return command('FLUSHALL').catch(() => {});
                  if (what.does === 'save') return command('SAVE').catch(() => {});
                  if (what.does === 'restart') return restart();
                  if (what.does === 'keys') {
                    await store.keys.add({
                      kid: `k${++keys}`,
                      alg: 'EdDSA',
                      origin: 'made',
                      createdAt: 0,
                      activeFrom: 0,
                      publicJwk: undefined,
                      sealedPrivateJwk: 'x',
                      compromisedAt: undefined,
                    });
                    return what.told ? Promise.try(() => instances[what.by]?.keysChanged()).catch(() => {}) : undefined;
                  }
                  const id = living.pop();
                  if (id === undefined) return undefined;
                  const ended = await end(id);
                  if (!what.told) return void unsaid.push(id);
                  await Promise.try(() => instances[what.by]?.add(ended)).then(
                    () => told.push(id),
                    () => unsaid.push(id),
                  );
                  return undefined;
                })
                .map((work) => work.catch((error: unknown) => (Object(error).code === 'unavailable' ? undefined : Promise.reject(error)))),
            );
            await Promise.all([ask(0), ask(1)]);
          }
          await Promise.all(instances.map(({ up }) => up()));
          told.push(...unsaid);
          await Promise.all([ask(0), ask(1)]);
        }),
        { numRuns: 12 },
      );
    },
  );
});
