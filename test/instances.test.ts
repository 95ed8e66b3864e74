import assert from 'node:assert/strict';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import { setTimeout } from 'node:timers/promises';
import { postgresStore } from '../packages/server/src/storage/sql/postgres-store.ts';
import { alice, type Pair, startCluster } from './support/cluster.ts';
import { folderFor, type Program, runCommand, shared, until } from './support/program.ts';
import { without } from './support/needs.ts';
import { isPostgresHere } from './support/postgres.ts';
import { isRedisHere, startRedis } from './support/redis.ts';
import { assertRefused } from './support/refusal.ts';
import { askAdmin } from './support/scrape.ts';
import { certificate } from './wire/support.ts';

const logIn = async (program: Program): Promise<{ access: string; refresh: string }> => {
  const { status, json, text } = await program.ask('POST', '/login', { json: alice });
  assert.equal(status, 200, text);
  return { access: json.access_token, refresh: json.refresh_token };
};

const skip = without('PostgreSQL', isPostgresHere);

for (const alsoOn of ['', ' and one Redis'])
  describe(`two instances on one PostgreSQL${alsoOn}`, { skip: skip || (alsoOn !== '' && without('Redis', isRedisHere)) }, () => {
    const cluster = shared(async (t) => {
      if (alsoOn === '') return startCluster(t);
      const redis = await startRedis();
      t.after(redis.stop);
      return startCluster(t, { REDIS_URL: redis.url });
    });

    test('each believes the tokens of the other, until the session ends on either', async () => {
      const { one, other } = cluster;
      for (let i = 0; i < 20; i++) {
        const [here, there] = i % 2 ? [one, other] : [other, one];
        const { access, refresh } = await logIn(here);
        assert.equal((await there.ask('GET', '/protected', { bearer: access })).status, 200);
        const next = await there.ask('POST', '/refresh', { bearer: refresh });
        assert.equal(next.status, 200, next.text);
        assert.equal((await here.ask('POST', '/logout', { bearer: access })).status, 200);
        assertRefused(await there.ask('GET', '/protected', { bearer: access }), 'token_revoked');
        assertRefused(await there.ask('GET', '/protected', { bearer: next.json.access_token }), 'token_revoked');
        assertRefused(await there.ask('POST', '/refresh', { bearer: next.json.refresh_token }), 'token_revoked');
      }
    });

    test('of many refreshes at once, over both, all get the same successor', async () => {
      const { one, other } = cluster;
      const { refresh } = await logIn(one);
      const all = await Promise.all(
        Array.from({ length: 30 }, (_, i) => (i % 2 ? one : other).ask('POST', '/refresh', { bearer: refresh })),
      );
      assert.deepEqual([...new Set(all.map(({ status }) => status))], [200]);
      assert.equal(new Set(all.map(({ json }) => json.refresh_token)).size, 1);
    });

    test('what the operator does is true on both at once: an ended session, a compromised key', async () => {
      const { one, other, run } = cluster;
      const { access, refresh } = await logIn(one);
      const [{ kid }] = await run('keys', 'list');
      await run('keys', 'compromise', '--yes', '--', kid);
      for (const program of [one, other]) assertRefused(await program.ask('GET', '/protected', { bearer: access }), 'token_key_gone');
      const next = await other.ask('POST', '/refresh', { bearer: refresh });
      assert.equal(next.status, 200, next.text);
      const bearer = next.json.access_token;
      for (const program of [one, other]) assert.equal((await program.ask('GET', '/protected', { bearer })).status, 200);
      await run('sessions', 'end', '--user', alice.username);
      for (const program of [one, other]) assertRefused(await program.ask('GET', '/protected', { bearer }), 'token_revoked');
    });

    test('the store says of each instance which keys it goes by, soon after they have changed, also where nobody asks', async () => {
      const { one, other, run, database } = cluster;
      const store = postgresStore({ url: database, poolSize: 1, timeoutMs: 5_000 });
      try {
        const before = await store.keys.version();
        await run('keys', 'rotate');
        const version = await store.keys.version();
        assert.ok(version > before);
        await until(async () => {
          const living = await store.instances.list(Date.now());
          return living.length === 2 && living.every(({ keysVersion }) => keysVersion === version);
        });
      } finally {
        await store.close();
      }
      for (const program of [one, other]) assert.equal((await program.ask('GET', '/.well-known/jwks.json')).json.keys.length, 2);
    });

    test('guesses at a name are counted together', async () => {
      const { one, other } = cluster;
      const all = await Promise.all(
        Array.from({ length: 30 }, (_, i) => (i % 2 ? one : other).ask('POST', '/login', { json: { username: 'nobody', password: 'x' } })),
      );
      assert.equal(all.filter(({ status }) => status === 401).length, 5);
    });
  });

test(
  'a database that is not there at the start: said by its name, without its password, and nothing listens',
  { timeout: 30_000 },
  async (t) => {
    const folder = folderFor(t);
    const [key, cert] = [join(folder, 'key.pem'), join(folder, 'cert.pem')];
    writeFileSync(key, certificate.key);
    writeFileSync(cert, certificate.cert);
    const env = {
      PORTCULLIS_DATA_DIR: folder,
      PORTCULLIS_DATABASE_URL: 'postgres://me:topsecret@127.0.0.1:1/x',
      PORTCULLIS_MASTER_SECRET: 'q3ZkT0v9yX7uB1nLw5cRj8sHd2fGm6aE4pKi',
      PORTCULLIS_ISSUER: 'https://localhost',
      PORTCULLIS_TLS_KEY_FILE: key,
      PORTCULLIS_TLS_CERT_FILE: cert,
      PORTCULLIS_PORT: '0',
      PORTCULLIS_ADMIN_LISTEN: 'none',
    };
    for (const command of [['serve'], ['users', 'list']]) {
      const { code, stdout, stderr } = await runCommand(command, { env });
      assert.deepEqual([code, stdout], [2, '']);
      assert.match(
        stderr,
        /: the store postgres:\/\/me@127\.0\.0\.1:1\/x cannot be asked \(PostgreSQL: ECONNREFUSED\): .*PORTCULLIS_DATABASE_URL/,
      );
      assert.doesNotMatch(stderr, /topsecret/);
    }
  },
);

test(
  'a database that is away: 503 for whatever needs it, nothing is believed; and all is well as soon as it is back',
  { skip },
  async (t) => {
    const { postgres, one, other } = await startCluster(t);
    const { access, refresh } = await logIn(one);
    await postgres.kill();
    for (const program of [one, other]) {
      for (const answer of [
        await program.ask('GET', '/protected', { bearer: access }),
        await program.ask('POST', '/refresh', { bearer: refresh }),
        await program.ask('POST', '/login', { json: alice }),
        await program.ask('POST', '/logout', { bearer: access }),
        await program.ask('GET', '/readyz'),
      ]) {
        assertRefused(answer, 'unavailable');
        assert.match(String(answer.headers['retry-after']), /^\d+$/);
      }
      assert.equal((await program.ask('GET', '/healthz')).status, 200);
    }
    await postgres.start();
    for (const program of [one, other]) {
      const isReady = async () => (await program.ask('GET', '/readyz')).status === 200;
      for (let tries = 0; tries < 200 && !(await isReady()); tries++) await setTimeout(20);
      assert.equal((await program.ask('GET', '/protected', { bearer: access })).status, 200);
    }
    assert.equal((await other.ask('POST', '/refresh', { bearer: refresh })).status, 200);
    assert.equal((await one.ask('POST', '/logout', { bearer: access })).status, 200);
  },
);

describe('limits over two instances and one Redis', { skip: skip || without('Redis', isRedisHere) }, () => {
  const cluster = shared(async (t) => {
    const redis = await startRedis();
    t.after(redis.stop);
    const limits = { PROTECTED_LIMITS: '20 per hour by ip', LOGIN_LIMITS: '1000 per minute by ip', REDIS_URL: redis.url };
    return { redis, ...(await startCluster(t, limits)) };
  });

  /** How many of so many, in turns over both, are let in for this address. */
  const admitted = async (from: string, times: number): Promise<number> => {
    const { one, other } = cluster;
    const { access: bearer } = await logIn(one);
    let sum = 0;
    for (let i = 0; i < times; i++) {
      const answer = await (i % 2 ? one : other).ask('GET', '/protected', { bearer, from });
      if (answer.status === 200) sum += 1;
      else assertRefused(answer, 'rate_limited');
    }
    return sum;
  };

  test('are one limit, also at the same moment', async () => {
    const { one, other } = cluster;
    assert.equal(await admitted('127.0.0.2', 30), 20);
    const { access: bearer } = await logIn(one);
    const all = await Promise.all(
      Array.from({ length: 60 }, (_, i) => (i % 2 ? one : other).ask('GET', '/protected', { bearer, from: '127.0.0.3' })),
    );
    assert.equal(all.filter(({ status }) => status === 200).length, 20);
  });

  test(
    'while Redis hangs or is away: never without a limit, each its share; counted together again once it is back',
    { timeout: 60_000 },
    async () => {
      const { redis, one, other } = cluster;
      await setTimeout(3_000); // each has heard of the other
      const said = (text: string) => until(() => [one, other].every((program) => program.output().includes(text)));
      redis.freeze();
      await admitted('127.0.0.4', 8);
      await said('Redis is away');
      assert.ok((await admitted('127.0.0.5', 40)) <= 20);
      redis.thaw();
      await until(() => [one, other].every((program) => program.output().split('Redis is there').length === 3));
      assert.equal(await admitted('127.0.0.6', 30), 20);
      await redis.kill();
      assert.equal(await admitted('127.0.0.7', 40), 20, 'ten each');
      await redis.start();
      await until(() => [one, other].every((program) => program.output().split('Redis is there').length === 4));
      assert.equal(await admitted('127.0.0.8', 30), 20, 'it has forgotten all scripts');
    },
  );
});

describe('sessions over two instances and one Redis', { skip: skip || without('Redis', isRedisHere) }, () => {
  const cluster = shared(async (t) => {
    const redis = await startRedis();
    t.after(redis.stop);
    const settings = { REDIS_URL: redis.url, REDIS_TIMEOUT: '500 ms', ADMIN_LISTEN: '127.0.0.1:0' };
    const all = { redis, ...(await startCluster(t, settings)) };
    await isBelieved(all);
    return all;
  });

  const protectedBy = (bearer: string) => {
    const { one, other } = cluster;
    return Promise.all([one, other].map((program) => program.ask('GET', '/protected', { bearer })));
  };
  const isBelieved = ({ one, other }: Pick<Pair, 'one' | 'other'>, times = 1): Promise<void> =>
    until(() => [one, other].every((program) => program.output().split('sessions are asked of Redis').length > times));

  test('while PostgreSQL is away, who is signed in goes on, who is logged out stays out, and nobody logs in', async () => {
    const { postgres, one, other } = cluster;
    const [gone, living] = [await logIn(one), await logIn(other)];
    assert.equal((await one.ask('POST', '/logout', { bearer: gone.access })).status, 200);
    await postgres.kill();
    for (const answer of await protectedBy(living.access)) assert.equal(answer.status, 200, answer.text);
    for (const answer of await protectedBy(gone.access)) assertRefused(answer, 'token_revoked');
    for (const [path, asked] of [
      ['/login', { json: alice }],
      ['/refresh', { bearer: living.refresh }],
      ['/logout', { bearer: living.access }],
    ] as const)
      assertRefused(await one.ask('POST', path, asked), 'unavailable');
    await postgres.start();
    for (const program of [one, other]) {
      assert.equal((await program.ask('GET', '/readyz')).status, 200, 'all the while');
      await until(async () => (await program.ask('POST', '/login', { json: alice })).status === 200);
    }
    for (const answer of await protectedBy(living.access)) assert.equal(answer.status, 200, 'nothing was done');
  });

  test('a Redis that has forgotten lets no revoked token in', async () => {
    const { redis, one } = cluster;
    const [gone, living] = [await logIn(one), await logIn(one)];
    assert.equal((await one.ask('POST', '/logout', { bearer: gone.access })).status, 200);
    for (let round = 0; round < 5; round++) {
      await redis.tell('FLUSHALL');
      for (const answer of await protectedBy(gone.access)) assertRefused(answer, 'token_revoked');
      for (const answer of await protectedBy(living.access)) assert.equal(answer.status, 200);
    }
  });

  test('a logout that Redis does not confirm says so, is one all the same, and may be repeated', { timeout: 60_000 }, async () => {
    const { redis, one } = cluster;
    const { access, refresh } = await logIn(one);
    redis.freeze();
    const pending = await one.ask('POST', '/logout', { bearer: access });
    assertRefused(pending, 'revocation_pending');
    assert.match(String(pending.headers['retry-after']), /^\d+$/);
    for (const answer of await protectedBy(access)) assertRefused(answer, 'token_revoked');
    assertRefused(await one.ask('POST', '/logout', { json: { refresh_token: refresh } }), 'revocation_pending');
    redis.thaw();
    await until(async () => (await one.ask('POST', '/logout', { json: { refresh_token: refresh } })).status === 200);
    for (const answer of await protectedBy(access)) assertRefused(answer, 'token_revoked');
  });

  test(
    'a key that is compromised while Redis hangs: done once each instance has said that it goes by it',
    { timeout: 60_000 },
    async () => {
      const { redis, one, other, run } = cluster;
      const { access } = await logIn(one);
      const keys: { kid: string; state: string }[] = await run('keys', 'list');
      redis.freeze();
      await run('keys', 'compromise', '--yes', '--', keys.find(({ state }) => state === 'active')?.kid ?? '');
      for (const program of [one, other]) assertRefused(await program.ask('GET', '/protected', { bearer: access }), 'token_key_gone');
      redis.thaw();
      await until(() => [one, other].every((program) => /limits are shared\b(?![^]*Redis is away)/.test(program.output())));
    },
  );

  test('operators see of whom sessions are asked', { timeout: 60_000 }, async () => {
    const { redis, one, other } = cluster;
    await redis.kill();
    await until(() => one.output().includes('sessions are asked of the database'));
    const { access } = await logIn(one);
    for (const answer of await protectedBy(access)) assert.equal(answer.status, 200);
    const detail = async () => JSON.parse((await askAdmin(one, '/readyz')).text);
    const { redis: state, sessionsAskedOf } = await detail();
    assert.deepEqual([state, sessionsAskedOf], ['away', 'database']);
    await redis.start();
    await until(async () => (await detail()).sessionsAskedOf === 'Redis');
    assert.equal((await one.ask('POST', '/logout', { bearer: access })).status, 200);
    assertRefused(await other.ask('GET', '/protected', { bearer: access }), 'token_revoked');
  });
});
