import assert from 'node:assert/strict';
import { suite, test } from 'node:test';
import { setTimeout as wait } from 'node:timers/promises';
import fc from 'fast-check';
import { manualClock } from '../../packages/guard/src/clock.ts';
import type { Charge, Verdict } from '../../packages/guard/src/counters.ts';
import { parseLimits, rulesFor } from '../../packages/guard/src/limit.ts';
import { memoryCounters } from '../../packages/guard/src/memory-counters.ts';
import type { RedisLedger } from '../../packages/guard/src/redis-ledger.ts';

/**
 * What a ledger in Redis must do beyond counting, wherever its keys are, as a suite of node:test.
 * @param on.make gives a fresh, empty one. @param on.forget empties Redis.
 */
export function ledgerConformance(
  name: string,
  on: { make: (more?: { now?: () => number }) => RedisLedger; forget: () => Promise<unknown> },
): void {
  suite(name, () => {
    const [m1, m2] = ['1'.padEnd(43, 'm'), '2'.padEnd(43, 'm')];

    test('a living session pays all, a revoked one only what it owes for its address', async () => {
      const [byIp, byCaller] = chargesOf('3 per minute by ip; 2 per minute by caller', 'address', 'user');
      const ledger = on.make();
      const ask = (sessionId: string) => ledger.takeFor(sessionId, [byIp], [byCaller]);
      const first = await ask('ses_1');
      assert.deepEqual(
        [first.revoked, first.generation, first.verdict.allowed && first.verdict.tightest?.rule],
        [false, undefined, byCaller.rule],
      );
      await ledger.revoke('ses_2', 60_000);
      const second = await ask('ses_2');
      assert.deepEqual([second.revoked, second.verdict.allowed], [true, true]);
      assert.equal(remaining(await ledger.peek([byIp])), 1);
      assert.equal(remaining(await ledger.peek([byCaller])), 1);
      assert.equal((await ask('ses_1')).verdict.allowed, true);
      const over = await ask('ses_1');
      assert.equal(over.verdict.allowed, false);
      assert.equal((await ledger.takeFor('ses_2', [], [])).revoked, true);
      assert.deepEqual((await ledger.takeFor('ses_1', [], [])).verdict, { allowed: true, tightest: undefined });
    });

    test('a limit that is over for the user alone does not count for a revoked session, nor keep it from paying', async () => {
      const [byIp, byCaller] = chargesOf('3 per minute by ip; 1 per minute by caller', 'address', 'user');
      const ledger = on.make();
      assert.equal((await ledger.takeFor('ses_1', [byIp], [byCaller])).verdict.allowed, true);
      const refused = await ledger.takeFor('ses_1', [byIp], [byCaller]);
      assert.equal(!refused.verdict.allowed && refused.verdict.refusedBy.rule, byCaller.rule);
      assert.equal(remaining(await ledger.peek([byIp])), 2);
      await ledger.revoke('ses_1', 60_000);
      for (const left of [1, 0]) {
        const { verdict, revoked } = await ledger.takeFor('ses_1', [byIp], [byCaller]);
        assert.deepEqual([revoked, remaining(verdict)], [true, left]);
      }
      const { verdict } = await ledger.takeFor('ses_1', [byIp], [byCaller]);
      assert.equal(!verdict.allowed && verdict.refusedBy.rule, byIp.rule);
    });

    test('a token that is known by its mark counts like any other; with another mark nothing counts, and nothing is said', async () => {
      const [byIp, byCaller] = chargesOf('3 per minute by ip; 2 per minute by caller', 'address', 'user');
      const ledger = on.make();
      const left = async () => [remaining(await ledger.peek([byIp])), remaining(await ledger.peek([byCaller]))];
      const ask = (mark: string, sessionId = 'ses_1') => ledger.takeForKnown(mark, sessionId, [byIp], [byCaller]);
      assert.equal(await ask(m1), undefined, 'nobody has told of it');
      await ledger.mark('ses_1', m1, 60_000);
      assert.equal(await ask(m2), undefined);
      assert.equal(await ask('x'), undefined);
      assert.equal(await ask(m1, 'ses_2'), undefined, 'of another session');
      assert.deepEqual(await left(), [3, 2]);

      assert.deepEqual([(await ask(m1))?.revoked, await left()], [false, [2, 1]]);
      await ledger.mark('ses_1', m2, 60_000);
      assert.equal(await ask(m1), undefined, 'only the last one is known');
      assert.deepEqual([(await ask(m2))?.revoked, await left()], [false, [1, 0]]);
      const over = await ask(m2);
      assert.equal(over && !over.verdict.allowed && over.verdict.refusedBy.rule, byCaller.rule);

      await ledger.revoke('ses_1', 60_000);
      const revoked = await ask(m2);
      assert.deepEqual([revoked?.revoked, revoked?.verdict.allowed, await left()], [true, true, [0, 0]]);
    });

    test('who has put the part of a mark that is asked for has not put the mark', async () => {
      const ledger = on.make();
      await ledger.mark('ses_1', m1, 60_000);
      for (const near of [`${m1.slice(0, 42)}x`, m1.slice(0, 42), `${m1}m`, m1.slice(0, 16), m1.slice(0, 17)])
        assert.equal(await ledger.takeForKnown(near, 'ses_1', [], []), undefined, near);
      assert.ok(await ledger.takeForKnown(m1, 'ses_1', [], []));
    });

    test('a mark goes by itself, is never there for no time, and says the generation like any answer', async () => {
      const ledger = on.make();
      const claimed = await ledger.claim('g1', 7);
      await ledger.mark('ses_1', m1, 150);
      await ledger.mark('ses_2', m1, 0);
      const said = await ledger.takeForKnown(m1, 'ses_1', [], []);
      assert.equal(said?.generation, claimed[said?.bucket ?? -1]);
      assert.equal(await ledger.takeForKnown(m1, 'ses_2', [], []), undefined);
      await wait(200);
      assert.equal(await ledger.takeForKnown(m1, 'ses_1', [], []), undefined);
    });

    test('a revocation goes by itself, and not before its time', async () => {
      const ledger = on.make();
      await ledger.revoke('ses_1', 150);
      await ledger.revoke('ses_2', 0);
      assert.equal((await ledger.takeFor('ses_1', [], [])).revoked, true);
      assert.equal((await ledger.takeFor('ses_2', [], [])).revoked, false);
      await wait(200);
      assert.equal((await ledger.takeFor('ses_1', [], [])).revoked, false);
    });

    test('a Redis that has forgotten cannot hide it', async () => {
      const ledger = on.make();
      const claimed = await ledger.claim('g1', 7);
      assert.deepEqual([...new Set(claimed)], ['g1.7']);
      assert.deepEqual(await ledger.claim('g2', 6), claimed, 'who comes later finds what is there');
      for (let i = 0; i < 50; i++) {
        const { generation, bucket } = await ledger.takeFor(`ses_${i}`, [], []);
        assert.equal(generation, claimed[bucket]);
      }
      assert.deepEqual([...new Set(await ledger.claim('g3', 8))], ['g1.8'], 'and raises it');
      await on.forget();
      for (let i = 0; i < 50; i++) assert.equal((await ledger.takeFor(`ses_${i}`, [], [])).generation, undefined);
    });

    test('of many at once on several counters, no counter admits more than its limit, and what was not admitted counts on none', async () => {
      const ledger = on.make();
      const users = Array.from({ length: 6 }, (_, i) => chargesOf('40 per hour by ip; 5 per hour by caller', 'address', `user ${i}`));
      const verdicts = await Promise.all(Array.from({ length: 90 }, (_, i) => ledger.take(users[i % 6] ?? [])));
      const admitted = users.map((_, user) => verdicts.filter(({ allowed }, i) => allowed && i % 6 === user).length);
      for (const count of admitted) assert.ok(count <= 5);
      for (const [i, [, byCaller]] of users.entries()) assert.equal(remaining(await ledger.peek([byCaller])), 5 - (admitted[i] ?? 0));
      const sum = admitted.reduce((a, b) => a + b);
      assert.equal(remaining(await ledger.peek([users[0]![0]])), 40 - sum);
      for (const charges of users) for (let i = 0; i < 5; i++) await ledger.take(charges);
      for (const [, byCaller] of users) assert.equal(remaining(await ledger.peek([byCaller])), 0, 'exactly N, once they come one by one');
    });

    test('says what counters in memory say, whatever has happened', async () => {
      await fc.assert(
        fc.asyncProperty(fc.nat(10_000_000), fc.array(steps, { minLength: 5, maxLength: 30 }), async (startsAt, history) => {
          const clock = manualClock(startsAt);
          const memory = memoryCounters({ clock, secret: Buffer.alloc(32) });
          const ledger = on.make({ now: clock.now });
          for (const { waitMs, charges, times, how } of history) {
            clock.advance(waitMs);
            for (let i = 0; i < times; i++) {
              const [here, there] = [
                memory[how === 'peek' ? 'peek' : 'take'](charges),
                how === 'takeFor' ? (await ledger.takeFor('ses_1', charges.slice(0, 1), charges)).verdict : await ledger[how](charges),
              ];
              assert.deepEqual(there, here);
            }
          }
        }),
        { numRuns: 60 },
      );
    });
  });
}

// Windows that 32 divides and that it does not, N on both sides of 32; none shorter than a test on a slow machine.
const rules = rulesFor(
  { method: 'GET', path: '/notes' },
  parseLimits(
    "1 per 32 seconds; 3 per 40 seconds by caller; 32 per 70 seconds; 33 per 70 seconds; 40 per 64 seconds; 100 per 3 minutes shared 'all'",
  ),
);
const steps = fc.record({
  waitMs: fc.oneof(fc.constant(0), fc.nat(50), fc.nat(3_000), fc.nat(90_000)),
  charges: fc.uniqueArray(fc.record({ rule: fc.constantFrom(...rules), who: fc.constantFrom('a', 'b', 'c') }), {
    minLength: 1,
    maxLength: 4,
    selector: ({ rule, who }) => `${rule.id} ${who}`,
  }),
  times: fc.oneof(fc.constant(1), fc.integer({ min: 1, max: 20 })),
  how: fc.constantFrom('take', 'take', 'takeFor', 'peek'),
});

function chargesOf(limits: string, ...whos: [string, string]): [Charge, Charge] {
  const charges = rulesFor({ method: 'GET', path: '/notes' }, parseLimits(limits)).map((rule, i) => ({ rule, who: whos[i] ?? '' }));
  return charges as [Charge, Charge]; // two limits were given
}

const remaining = (verdict: Verdict): number | undefined => (verdict.allowed ? verdict.tightest?.remaining : 0);
