import assert from 'node:assert/strict';
import { after, suite, test } from 'node:test';
import { createClient } from '@redis/client';
import { countersConformance } from '../src/counters-conformance.ts';
import { parseLimits, rulesFor } from '../src/limit.ts';
import { redisLedger, type RunScript } from '../src/redis-ledger.ts';
import { isRedisHere, startRedis } from '../../../test/support/redis.ts';

const redis = isRedisHere || process.env.CI ? await startRedis() : undefined;
const client = createClient({ url: redis?.url ?? '' });
if (redis) await client.connect();
after(async () => {
  if (redis) await client.close();
  await redis?.stop();
});

const run: RunScript = (script, keys, args) => client.eval(script, { keys: [...keys], arguments: [...args] });

let nth = 0;
if (redis) countersConformance('counters in Redis', (clock) => redisLedger({ prefix: `t${nth++}`, now: clock.now, run }));

suite('a session and its counters in one trip', { skip: !redis }, () => {
  const [byIp, byCaller] = rulesFor({ method: 'GET', path: '/notes' }, parseLimits('3 per minute by ip; 2 per minute by caller')).map(
    (rule) => ({ rule, who: 'a' }),
  );
  assert.ok(byIp && byCaller);

  test('a living one pays all, a revoked one only what it owes for its address', async () => {
    const ledger = redisLedger({ prefix: `t${nth++}`, run });
    const ask = (sessionId: string) => ledger.takeFor(sessionId, [byIp], [byCaller]);
    const first = await ask('ses_1');
    assert.deepEqual(
      [first.revoked, first.generation, first.verdict.allowed && first.verdict.tightest?.rule],
      [false, undefined, byCaller.rule],
    );
    await ledger.revoke('ses_2', 60_000);
    const second = await ask('ses_2');
    assert.deepEqual([second.revoked, second.verdict.allowed], [true, true]);
    assert.equal(standing(await ledger.peek([byIp])), 1);
    assert.equal(standing(await ledger.peek([byCaller])), 1);
    assert.equal((await ask('ses_1')).verdict.allowed, true);
    const over = await ask('ses_1');
    assert.equal(over.verdict.allowed, false);
    assert.equal((await ledger.takeFor('ses_2', [], [])).revoked, true);
    assert.deepEqual((await ledger.takeFor('ses_1', [], [])).verdict, { allowed: true, tightest: undefined });
  });

  test('a revocation goes by itself, and not before its time', async () => {
    const ledger = redisLedger({ prefix: `t${nth++}`, run });
    await ledger.revoke('ses_1', 150);
    await ledger.revoke('ses_2', 0);
    assert.equal((await ledger.takeFor('ses_1', [], [])).revoked, true);
    assert.equal((await ledger.takeFor('ses_2', [], [])).revoked, false);
    await new Promise((next) => setTimeout(next, 200));
    assert.equal((await ledger.takeFor('ses_1', [], [])).revoked, false);
  });

  test('a Redis that has forgotten cannot hide it', async () => {
    const ledger = redisLedger({ prefix: `t${nth++}`, run });
    const claimed = await ledger.claim('g1', 7);
    assert.deepEqual([...new Set(claimed)], ['g1.7']);
    assert.deepEqual(await ledger.claim('g2', 6), claimed, 'who comes later finds what is there');
    for (let i = 0; i < 50; i++) {
      const { generation, part } = await ledger.takeFor(`ses_${i}`, [], []);
      assert.equal(generation, claimed[part]);
    }
    assert.deepEqual([...new Set(await ledger.claim('g3', 8))], ['g1.8'], 'and raises it');
    await client.flushAll();
    for (let i = 0; i < 50; i++) assert.equal((await ledger.takeFor(`ses_${i}`, [], [])).generation, undefined);
  });
});

const standing = (verdict: Awaited<ReturnType<ReturnType<typeof redisLedger>['peek']>>): number | undefined =>
  verdict.allowed ? verdict.tightest?.remaining : 0;
