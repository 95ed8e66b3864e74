import assert from 'node:assert/strict';
import { after, suite, test } from 'node:test';
import { createClient } from '@redis/client';
import { countersConformance } from '../src/counters-conformance.ts';
import { parseLimits, rulesFor } from '../src/limit.ts';
import { redisLedger, type RedisLedgerOptions, type RunScript } from '../src/redis-ledger.ts';
import { ledgerConformance } from '../../../test/support/ledger-conformance.ts';
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
const newLedger = (more: Partial<RedisLedgerOptions> = {}) => redisLedger({ prefix: `t${nth++}`, run, ...more });

if (redis) {
  countersConformance('counters in Redis', (clock) => newLedger({ now: clock.now }));
  ledgerConformance('a ledger in Redis', { make: newLedger, forget: () => client.flushAll() });
}

suite('one trip', { skip: !redis }, () => {
  const charges = rulesFor({ method: 'GET', path: '/notes' }, parseLimits('3 per minute by ip; 2 per minute by caller')).map((rule, i) => ({
    rule,
    who: `who ${i}`,
  }));

  test('is all that a session and its counters take', async () => {
    let trips = 0;
    const ledger = newLedger({
      run(...script) {
        trips += 1;
        return run(...script);
      },
    });
    for (let i = 0; i < 5; i++) await ledger.takeFor('ses_1', charges.slice(0, 1), charges.slice(1));
    assert.equal(trips, 5);
  });

  test('what is no answer of ours is unavailable and told, and counts nothing', async () => {
    const told: string[] = [];
    for (const nonsense of ['OK', null, 1, [], [1], ['1', '1', '1', '1'], [1, 9, 1, 1, '', 0], [0, 0, 0, 0, '', 0], [0, 1, 0, -5, '', 0]]) {
      const ledger = newLedger({ run: async () => nonsense, onOdd: (why) => told.push(why) });
      await assert.rejects(async () => ledger.take(charges), { code: 'unavailable' });
      await assert.rejects(ledger.takeFor('ses_1', [], charges), { code: 'unavailable' });
    }
    assert.equal(told.length, 18);
  });
});
