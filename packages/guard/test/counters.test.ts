import assert from 'node:assert/strict';
import { suite, test } from 'node:test';
import fc from 'fast-check';
import { manualClock } from '../src/clock.ts';
import { countersConformance } from '../src/counters-conformance.ts';
import { parseLimits, rulesFor, type Rule } from '../src/limit.ts';
import { memoryCounters } from '../src/memory-counters.ts';
import { copyList, count, isOver, newList, resetMs, settle } from '../src/sliding-list.ts';

const secret = new Uint8Array(32).fill(7);

countersConformance('counters in memory', (clock) => memoryCounters({ clock, secret }));

suite('the state of a counter', () => {
  test('is at most 33 entries, however long and hard it is used', () => {
    for (const text of ['32 per second', '33 per second', '1000000 per 7 seconds', '1000000000 per 31 days']) {
      const { limit } = ruleOf(text);
      const list = newList();
      let most = 0;
      for (let now = 1e12; now < 1e12 + 3 * limit.windowMs; now += Math.floor(limit.windowMs / Math.min(limit.max, 500))) {
        if (settle(list, limit, now) > 0) count(list, limit, now);
        most = Math.max(most, list.entries.length / 2);
      }
      assert.ok(most >= 32 && most <= 33, `${text}: ${most}`);
    }
  });

  test('keeps exact times up to 32, and the first millisecond after the slot above', () => {
    const leaves = (text: string, at: number) => {
      const { limit } = ruleOf(text);
      const list = newList();
      count(list, limit, at);
      return at + resetMs(list, limit, at);
    };
    assert.deepEqual(
      [0, 1, 31, 32].map((at) => leaves('32 per second', at)),
      [1_000, 1_001, 1_031, 1_032],
    );
    // Slots of 31.25 ms: up to 31.25, up to 62.5, …
    assert.deepEqual(
      [0, 31, 32, 62, 63, 968, 969].map((at) => leaves('33 per second', at)),
      [1_032, 1_032, 1_063, 1_063, 1_094, 1_969, 2_000],
    );
    assert.equal(leaves('1000 per 32 seconds', Date.UTC(2026, 0, 1)), Date.UTC(2026, 0, 1) + 33_000);
  });

  test('does not grow by a refusal', () => {
    const { limit } = ruleOf('2 per second');
    const list = newList();
    for (const now of [0, 1]) count(list, limit, now);
    const before = structuredClone(list);
    for (let now = 1; now < 1_000; now++) assert.equal(settle(list, limit, now), 0);
    assert.deepEqual(list, before);
  });

  test('is not confused by a clock that runs back: it refuses late, never early', () => {
    for (const text of ['2 per second', '40 per second']) {
      const { limit } = ruleOf(text);
      const list = newList();
      for (let i = 0; i < limit.max; i++) count(list, limit, i === 0 ? 5_000 : 4_000);
      assert.equal(isOver(list, limit, 5_999), false);
      assert.equal(settle(list, limit, 5_999), 0);
      assert.equal(settle(list, limit, 6_100), limit.max);
    }
  });

  test('is a copy of its own when copied', () => {
    const { limit } = ruleOf('2 per second');
    const list = newList();
    count(list, limit, 0);
    const copy = copyList(list);
    count(copy, limit, 0);
    assert.deepEqual([settle(list, limit, 0), settle(copy, limit, 0)], [1, 0]);
  });
});

suite('a full memory', () => {
  test('keeps who is in it, and lets the newcomers share', () => {
    const { take, size } = full({ maxKeys: 2, overflowCounters: 1 });
    assert.ok(take('a') && take('b'));
    assert.ok(take('c') && take('d') && take('e'));
    assert.ok(!take('f'), 'c, d and e used up the one overflow counter');
    assert.ok(take('a') && take('a') && !take('a'), 'a has its whole limit');
    assert.equal(size(), 2);
  });

  test('gives a place that a dead counter held to the next who comes', () => {
    const { clock, take, size } = full({ maxKeys: 1, overflowCounters: 1 });
    take('a');
    clock.advance(60_000);
    for (let i = 0; i < 3; i++) assert.ok(take('b'));
    assert.ok(take('c'), 'c has the overflow counter for itself: b is not in it');
    assert.equal(size(), 1);
  });

  test('takes no counter away that has anything left in it', () => {
    const { clock, take, sweep } = full({ maxKeys: 1, overflowCounters: 1 });
    take('a');
    clock.advance(30_000);
    assert.ok(take('a') && take('a'));
    clock.advance(30_000);
    take('b');
    sweep();
    assert.ok(take('a') && !take('a'));
  });

  test('gives nobody a second limit: who shared takes the count along', () => {
    const { clock, take, sweep, size } = full({ maxKeys: 1, overflowCounters: 1 });
    take('a');
    clock.advance(59_999);
    assert.ok(take('b') && take('b'));
    clock.advance(1);
    sweep();
    assert.equal(size(), 0);
    assert.ok(take('b') && !take('b'), 'two were counted while b shared');
    clock.advance(59_999);
    assert.ok(take('b') && take('b') && !take('b'), 'and they leave in their time');
  });

  test('does not keep sharing alive: with room again, others who use it do not count for me', () => {
    const { clock, take, sweep } = full({ maxKeys: 3, overflowCounters: 1 });
    for (const who of ['x', 'y', 'z']) take(who);
    assert.ok(take('a'));
    clock.advance(60_000);
    sweep();
    assert.ok(take('a') && take('a') && take('a') && !take('a'));
    assert.ok(take('b'));
  });

  test('does not lose a count of the request that reclaims', () => {
    const clock = manualClock();
    const counters = memoryCounters({ clock, secret, maxKeys: 2, overflowCounters: 1 });
    const [short, long] = [ruleOf('1 per second'), ruleOf('1 per hour')];
    counters.take([{ rule: short, who: 'a' }]);
    counters.take([{ rule: long, who: 'b' }]);
    clock.advance(1_000);
    // The counter of a is empty now: making room for c must not delete it under this request.
    const charges = [
      { rule: long, who: 'c' },
      { rule: short, who: 'a' },
    ];
    assert.equal(counters.take(charges).allowed, true);
    assert.equal(counters.peek(charges.slice(1)).allowed, false);
    assert.equal(counters.peek(charges.slice(0, 1)).allowed, false);
  });

  test('a refused or peeking key takes no place', () => {
    const clock = manualClock();
    const counters = memoryCounters({ clock, secret });
    const one = { rule: ruleOf('1 per minute'), who: 'a' };
    counters.take([one]);
    for (let i = 0; i < 100; i++) {
      counters.peek([{ rule: one.rule, who: `peek ${i}` }]);
      assert.equal(counters.take([one, { rule: ruleOf('9 per hour'), who: `refused ${i}` }]).allowed, false);
    }
    assert.equal(counters.size(), 1);
  });

  test('who shares with whom hangs on the secret', () => {
    const sharesWithA = (key: number) => {
      const clock = manualClock();
      const counters = memoryCounters({ clock, secret: new Uint8Array(32).fill(key), maxKeys: 0, overflowCounters: 8 });
      const rule = ruleOf('1 per minute');
      counters.take([{ rule, who: 'a' }]);
      return Array.from({ length: 64 }, (_, i) => counters.peek([{ rule, who: `10.0.0.${i}` }]).allowed);
    };
    assert.deepEqual(sharesWithA(1), sharesWithA(1));
    assert.notDeepEqual(sharesWithA(1), sharesWithA(2));
    const shared = sharesWithA(1).filter((allowed) => !allowed).length;
    assert.ok(shared > 0 && shared < 64);
  });

  test('whatever happens, nobody gets more than N in a window, and quiet heals everything', () => {
    const rules = ['1 per second', '3 per 2 seconds', '33 per second', '40 per 3 seconds by caller'].map(ruleOf);
    const step = fc.oneof(
      {
        weight: 6,
        arbitrary: fc.record({
          kind: fc.constant('take' as const),
          times: fc.integer({ min: 1, max: 30 }),
          charges: fc.array(fc.record({ rule: fc.constantFrom(...rules), who: fc.constantFrom(...'abcdefgh') }), {
            minLength: 1,
            maxLength: 3,
          }),
        }),
      },
      {
        weight: 4,
        arbitrary: fc.record({
          kind: fc.constant('wait' as const),
          ms: fc.oneof(fc.nat(40), fc.nat(1_100), fc.constantFrom(999, 1_000, 1_032, 2_000, 3_000)),
        }),
      },
      { weight: 1, arbitrary: fc.record({ kind: fc.constant('sweep' as const) }) },
    );
    const runs = fc.record({
      maxKeys: fc.nat(4),
      overflowCounters: fc.integer({ min: 1, max: 3 }),
      startsAt: fc.nat(100_000),
      steps: fc.array(step, { maxLength: 60 }),
    });
    fc.assert(
      fc.property(runs, ({ maxKeys, overflowCounters, startsAt, steps }) => {
        const clock = manualClock(startsAt);
        const counters = memoryCounters({ clock, secret, maxKeys, overflowCounters });
        const timesOf = new Map<string, number[]>();
        for (const step of steps) {
          if (step.kind === 'wait') clock.advance(step.ms);
          if (step.kind === 'sweep') counters.sweep();
          if (step.kind !== 'take') continue;
          for (let i = 0; i < step.times && counters.take(step.charges).allowed; i++) {
            for (const key of new Set(step.charges.map(({ rule, who }) => `${who} ${rule.id}`)))
              timesOf.set(key, [...(timesOf.get(key) ?? []), clock.now()]);
          }
          assert.ok(counters.size() <= maxKeys);
        }
        for (const rule of rules)
          for (const who of 'abcdefgh') {
            const times = timesOf.get(`${who} ${rule.id}`) ?? [];
            for (const [i, at] of times.entries()) {
              const after = times[i + rule.limit.max];
              assert.ok(after === undefined || after - at >= rule.limit.windowMs, `${who} had more than ${rule.limit.text}`);
            }
          }
        clock.advance(3_100);
        for (const rule of rules)
          for (const who of 'abcdefgh') {
            const verdict = counters.peek([{ rule, who }]);
            assert.ok(verdict.allowed && verdict.tightest?.remaining === rule.limit.max);
          }
        counters.sweep();
        assert.equal(counters.size(), 0);
      }),
      { numRuns: 500 },
    );
  });

  test('a flood of fresh keys leaves it bounded, and what it left is swept bit by bit', () => {
    const { clock, take, sweep, size } = full({ maxKeys: 12_000, overflowCounters: 4 });
    take('early');
    let admitted = 0;
    for (let i = 0; i < 20_000; i++) if (take(`flood ${i}`)) admitted += 1;
    assert.equal(size(), 12_000);
    assert.equal(admitted, 11_999 + 4 * 3);
    assert.ok(take('early') && take('early') && !take('early'));
    clock.advance(60_000);
    sweep();
    assert.equal(size(), 7_000);
    for (let i = 0; i < 2; i++) sweep();
    assert.equal(size(), 0);
    assert.ok(take('early'));
  });
});

/** Counters of one rule, `3 per minute by ip`. */
function full(bounds: { maxKeys: number; overflowCounters: number }) {
  const clock = manualClock();
  const counters = memoryCounters({ clock, secret, ...bounds });
  const rule = ruleOf('3 per minute by ip');
  return { clock, take: (who: string) => counters.take([{ rule, who }]).allowed, sweep: counters.sweep, size: counters.size };
}

function ruleOf(text: string): Rule {
  const [rule] = rulesFor({ method: 'GET', path: '/notes' }, parseLimits(text));
  assert.ok(rule);
  return rule;
}
