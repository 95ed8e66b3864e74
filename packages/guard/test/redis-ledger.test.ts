import assert from 'node:assert/strict';
import { randomBytes, randomInt } from 'node:crypto';
import { after, suite, test } from 'node:test';
import { createClient } from '@redis/client';
import { manualClock } from '../src/clock.ts';
import { countersConformance } from '../src/counters-conformance.ts';
import { parseLimits, rulesFor } from '../src/limit.ts';
import { redisLedger, type RedisLedger, type RedisLedgerOptions, type RunScript } from '../src/redis-ledger.ts';
import { GIVE_BACK } from '../src/redis-scripts.ts';
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

  test('gives each of many the answer that it would have got alone, whatever they ask beside each other', async () => {
    const limits = parseLimits('3 per minute by ip; 40 per hour by ip; 2 per minute by caller');
    const rules = ['/notes', '/else'].map((path) => rulesFor({ method: 'GET', path }, limits));
    const one = <T>(of: readonly T[]): T => of[randomInt(of.length)]!;
    const some = () => one(rules).flatMap((rule) => (randomInt(3) === 0 ? [] : [{ rule, who: `who ${randomInt(4)}` }]));
    const sessions = Array.from({ length: 8 }, (_, i) => ({ id: `ses_${i}`, mark: randomBytes(32).toString('base64url') }));

    const clock = manualClock();
    let trips = 0;
    const [together, alone] = await Promise.all(
      [0, 0].map(async () => {
        const ledger = newLedger({
          now: clock.now,
          run(...script) {
            trips += 1;
            return run(...script);
          },
        });
        for (const [i, { id, mark }] of sessions.entries()) {
          if (i % 2) await ledger.mark(id, mark, 60_000);
          if (i % 3 === 0) await ledger.revoke(id, 60_000);
        }
        return ledger;
      }),
    );
    assert.ok(together && alone);
    for (let round = 0; round < 30; round++) {
      const asked: ((ledger: RedisLedger) => Promise<unknown>)[] = Array.from({ length: 60 }, () => {
        const [always, ifLiving, kind] = [some(), some(), randomInt(4)];
        const [{ id }, { mark }] = randomInt(3) ? [one(sessions), one(sessions)] : [sessions[1]!, sessions[1]!];
        return async (ledger) => {
          if (kind === 0) return ledger.peek(always);
          if (kind === 1) return ledger.take(always);
          return kind === 2 ? ledger.takeFor(id, always, ifLiving) : ledger.takeForKnown(mark, id, always, ifLiving);
        };
      });
      trips = 0;
      const answers: readonly unknown[] = await Promise.all(asked.map((ask) => ask(together)));
      assert.ok(trips <= 2, `${trips} trips`);
      for (const [i, ask] of asked.entries()) assert.deepEqual(answers[i], await ask(alone), `round ${round}, question ${i}`);
      clock.advance(randomInt(20_000));
    }
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

  test('a Redis that says it knows a token, and cannot say how its mark ends, knows none', async () => {
    const mark = 'm'.repeat(16).padEnd(43, 'r');
    for (const isCluster of [false, true]) {
      let asked = '';
      const saying = (rest: unknown) =>
        newLedger({
          isCluster,
          run: async (_, keys, args) => {
            asked += [...keys, ...args].join(' ');
            return [[1, 0, 0, 0, '', 0, rest]];
          },
        });
      for (const rest of ['', undefined, null, 1, 'x'.repeat(27), mark, mark.slice(0, 27), [mark.slice(16)].concat('')])
        assert.equal(await saying(rest).takeForKnown(mark, 'ses_1', [], []), undefined, String(rest));
      assert.ok(!asked.includes('r'.repeat(5)), 'nor is it told');
      assert.ok(await saying(mark.slice(16)).takeForKnown(mark, 'ses_1', [], []));
    }
  });
});

suite('what was lent in several places', { skip: !redis }, () => {
  const [wide, narrow] = ['5 per minute', '1 per day'].map((text) => rulesFor({ method: 'GET', path: '/notes' }, parseLimits(text))[0]);
  assert.ok(wide && narrow);
  const charges = [
    { rule: wide, who: 'a' },
    { rule: narrow, who: 'b' },
  ];

  /** Two requests of which the second is refused, and something happens before what it was lent is given back. */
  async function refused(before: (on: { prefix: string; now: () => number; advance: (ms: number) => void }) => Promise<unknown>) {
    const prefix = `t${nth++}`;
    const clock = manualClock();
    const ledger = newLedger({
      prefix,
      now: clock.now,
      isCluster: true,
      async run(script, keys, args) {
        if (script === GIVE_BACK) await before({ prefix, ...clock });
        return run(script, keys, args);
      },
    });
    assert.equal((await ledger.take(charges)).allowed, true);
    clock.advance(1_000);
    assert.equal((await ledger.take(charges)).allowed, false);
    const verdict = await ledger.peek(charges.slice(0, 1));
    return { left: verdict.allowed && verdict.tightest?.remaining, prefix };
  }

  test('is given back, and the counter lives as long as before', async () => {
    const { left, prefix } = await refused(async () => {});
    assert.equal(left, 4);
    const lives = await Promise.all((await client.keys(`${prefix}:*`)).map((key) => client.pTTL(key)));
    assert.equal(lives.length, 2);
    for (const ms of lives) assert.ok(ms > 50_000, String(ms));
  });

  test('is not there to be given back when it has left or was forgotten, and nobody else pays for it', async () => {
    const inPlace = ({ prefix, now }: { prefix: string; now: () => number }) => newLedger({ prefix, now }).take(charges.slice(0, 1));
    const hasLeft = await refused(async (on) => {
      on.advance(60_000);
      await inPlace(on);
    });
    assert.equal(hasLeft.left, 4);
    const wasForgotten = await refused(async (on) => {
      await client.flushAll();
      on.advance(1);
      await inPlace(on);
    });
    assert.equal(wasForgotten.left, 4);
    assert.equal((await refused(() => client.flushAll())).left, 5);
  });

  test('counts until it is given back, and for good where that fails', async () => {
    const { left } = await refused(async (on) => {
      const verdict = await newLedger(on).peek(charges.slice(0, 1));
      assert.equal(verdict.allowed && verdict.tightest?.remaining, 3);
      throw new Error('away');
    });
    assert.equal(left, 3);
  });
});
