import assert from 'node:assert/strict';
import { suite, test, type TestContext } from 'node:test';
import { openRedis, type RedisLink, type RedisLinkOptions } from '../src/storage/redis/redis-link.ts';
import { without } from '../../../test/support/needs.ts';
import { isRedisHere, startRedis } from '../../../test/support/redis.ts';

suite('the link to Redis', { skip: without('Redis', isRedisHere) }, () => {
  test('runs a script by its hash, and again after Redis has forgotten it', async (t) => {
    const { link } = await linked(t);
    const script = 'return {KEYS[1], ARGV[1], 42}';
    assert.deepEqual(await link.run(script, ['k'], ['a']), ['k', 'a', 42]);
    await link.command('SCRIPT', 'FLUSH');
    assert.deepEqual(await link.run(script, ['k'], ['b']), ['k', 'b', 42]);
  });

  test("a fault of ours is not Redis's being away", async (t) => {
    const { link } = await linked(t);
    await assert.rejects(link.run('return nothing(', [], []), /ERR/);
    await assert.rejects(link.command('GET'), /wrong number of arguments/);
    assert.equal(link.isUp(), true);
  });

  test('a hung Redis: each call ends in time, then at once; it comes back by itself', async (t) => {
    const { link, redis, changes } = await linked(t);
    redis.freeze();
    const answers = await Promise.allSettled(Array.from({ length: 100 }, () => link.command('PING')));
    for (const answer of answers) assert.equal(answer.status === 'rejected' && answer.reason.code, 'unavailable');
    assert.equal(link.isUp(), false);
    await assert.rejects(link.command('PING'), { code: 'unavailable', message: /away/ });
    redis.thaw();
    await until(link.isUp);
    assert.equal(await link.command('PING'), 'PONG');
    assert.deepEqual(changes, [true, false, true]);
  });

  test('a killed Redis: refused at once, back when it is back, and greeted anew', async (t) => {
    let greeted = 0;
    const { link, redis } = await linked(t, {
      greet: async (command) => {
        greeted += 1;
        if (greeted === 2) throw new Error('not yet');
        await command('SET', 'greeted', String(greeted));
      },
    });
    await redis.kill();
    await until(() => !link.isUp());
    await assert.rejects(link.command('PING'), { code: 'unavailable' });
    await redis.start();
    await until(link.isUp);
    assert.equal(await link.command('GET', 'greeted'), '3');
  });

  test('no Redis at the start is a link that is down, and comes up with it', async (t) => {
    const redis = await startRedis();
    t.after(redis.stop);
    await redis.kill();
    const link = openRedis({ url: redis.url, timeoutMs: 200, greet: async () => {} });
    t.after(link.close);
    await assert.rejects(link.command('PING'), { code: 'unavailable' });
    await redis.start();
    await until(link.isUp);
  });
});

async function linked(t: TestContext, more: Partial<RedisLinkOptions> = {}) {
  const redis = await startRedis();
  const changes: boolean[] = [];
  const link: RedisLink = openRedis({
    url: redis.url,
    timeoutMs: 200,
    greet: async () => {},
    onChange: (isUp) => changes.push(isUp),
    ...more,
  });
  t.after(async () => {
    link.close();
    await redis.stop();
  });
  await until(link.isUp);
  return { link, redis, changes };
}

async function until(isSo: () => boolean): Promise<void> {
  for (let i = 0; i < 500 && !isSo(); i++) await new Promise((next) => setTimeout(next, 10));
  assert.ok(isSo(), 'not within five seconds');
}
