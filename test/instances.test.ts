import assert from 'node:assert/strict';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import { setTimeout } from 'node:timers/promises';
import { alice, startCluster } from './support/cluster.ts';
import { folderFor, type Program, runCommand, shared, until } from './support/program.ts';
import { without } from './support/needs.ts';
import { isPostgresHere } from './support/postgres.ts';
import { isRedisHere, startRedis } from './support/redis.ts';
import { assertRefused } from './support/refusal.ts';
import { certificate } from './wire/support.ts';

const logIn = async (program: Program): Promise<{ access: string; refresh: string }> => {
  const { status, json, text } = await program.ask('POST', '/login', { json: alice });
  assert.equal(status, 200, text);
  return { access: json.access_token, refresh: json.refresh_token };
};

const skip = without('PostgreSQL', isPostgresHere);

describe('two instances on one PostgreSQL', { skip }, () => {
  const cluster = shared((t) => startCluster(t));

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
    const all = await Promise.all(Array.from({ length: 30 }, (_, i) => (i % 2 ? one : other).ask('POST', '/refresh', { bearer: refresh })));
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
