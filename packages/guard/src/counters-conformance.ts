import assert from 'node:assert/strict';
import { suite, test } from 'node:test';
import fc from 'fast-check';
import { manualClock, type Clock } from './clock.ts';
import type { Charge, Counters, Standing, Verdict } from './counters.ts';
import { parseLimits, rulesFor, type Rule } from './limit.ts';

/**
 * What every implementation of `Counters` must do, as a suite of node:test.
 * @param make gives fresh, empty counters that tell the time by this clock.
 */
export function countersConformance(name: string, make: (clock: Clock) => Counters | Promise<Counters>): void {
  suite(name, () => {
    test('exactly N from rest, then a refusal that says how long, then one more', async () => {
      const clock = manualClock();
      const counters = await make(clock);
      const charges = [{ rule: ruleOf('3 per minute'), who: 'a' }];
      const [{ rule }] = charges as [Charge];
      assert.deepEqual(await counters.take(charges), { allowed: true, tightest: { rule, remaining: 2, resetMs: 60_000 } });
      clock.advance(10_000);
      await counters.take(charges);
      assert.deepEqual(await counters.take(charges), { allowed: true, tightest: { rule, remaining: 0, resetMs: 50_000 } });
      clock.advance(49_999);
      assert.deepEqual(await counters.take(charges), { allowed: false, refusedBy: { rule, remaining: 0, resetMs: 1 } });
      clock.advance(1);
      assert.deepEqual(await counters.take(charges), { allowed: true, tightest: { rule, remaining: 0, resetMs: 10_000 } });
    });

    test('never 2 N around the edge of a window, however the edges lie', async () => {
      for (let phase = 0; phase < 1_000; phase += 50) {
        const clock = manualClock(Date.UTC(2026, 0, 1) + phase);
        const counters = await make(clock);
        assert.equal(await admitted(counters, ruleOf('40 per second'), 100), 40);
        clock.advance(999);
        assert.equal(await admitted(counters, ruleOf('40 per second'), 100), 0);
      }
    });

    test('each address and each rule counts for itself, whatever it is called', async () => {
      const clock = manualClock();
      const counters = await make(clock);
      const rules = [ruleOf('1 per minute'), ruleOf('1 per minute by caller'), ruleOf("1 per minute shared 'a'")];
      const names = ['', 'a', 'A', '__proto__', 'constructor', '1', '2001:db8::/64', 'ü\u0000\ud83d\ude00', 'x'.repeat(300)];
      for (const rule of rules) for (const who of names) assert.equal((await counters.take([{ rule, who }])).allowed, true);
      for (const rule of rules) for (const who of names) assert.equal((await counters.take([{ rule, who }])).allowed, false);
    });

    test('a shared limit is one limit, from whichever route', async () => {
      const counters = await make(manualClock());
      const limits = parseLimits("1 per minute shared 'both'");
      const [one, other] = ['/one', '/other'].map((path) => rulesFor({ method: 'GET', path }, limits)[0]!) as [Rule, Rule];
      assert.equal((await counters.take([{ rule: one, who: 'a' }])).allowed, true);
      assert.equal((await counters.take([{ rule: other, who: 'a' }])).allowed, false);
    });

    test('all or nothing: what one charge refuses counts on none', async () => {
      const clock = manualClock();
      const counters = await make(clock);
      const [wide, narrow] = [
        { rule: ruleOf('5 per hour'), who: 'a' },
        { rule: ruleOf('1 per minute'), who: 'b' },
      ];
      await counters.take([wide, narrow]);
      const before = await counters.peek([wide]);
      for (const charges of [
        [wide, narrow],
        [narrow, wide],
      ])
        assert.equal((await counters.take(charges)).allowed, false);
      assert.deepEqual(await counters.peek([wide]), before);
    });

    test('a peek counts nothing', async () => {
      const counters = await make(manualClock());
      const rule = ruleOf('1 per minute');
      for (let i = 0; i < 3; i++) {
        assert.deepEqual(await counters.peek([{ rule, who: 'a' }]), { allowed: true, tightest: { rule, remaining: 1, resetMs: 0 } });
      }
      await counters.take([{ rule, who: 'a' }]);
      assert.deepEqual(await counters.peek([{ rule, who: 'a' }]), { allowed: false, refusedBy: { rule, remaining: 0, resetMs: 60_000 } });
    });

    test('the tightest limit speaks when all admit, the longest wait when several refuse, the first of equals', async () => {
      const clock = manualClock();
      const counters = await make(clock);
      const [hour, minute, caller] = ['4 per hour', '2 per minute', '2 per minute by caller'].map(ruleOf) as [Rule, Rule, Rule];
      const charges = [hour, minute, caller].map((rule) => ({ rule, who: 'a' }));
      assert.equal(tightestOf(await counters.peek(charges))?.rule, hour);
      assert.equal(tightestOf(await counters.take(charges))?.rule, minute);
      await counters.take(charges);
      assert.equal(refusedByOf(await counters.take(charges)).rule, minute);
      clock.advance(60_000);
      await counters.take(charges);
      await counters.take(charges);
      assert.deepEqual(refusedByOf(await counters.take(charges)), { rule: hour, remaining: 0, resetMs: 3_540_000 });
    });

    test('a charge named twice counts once, and no charge at all is admitted', async () => {
      const counters = await make(manualClock());
      const charge = { rule: ruleOf('2 per minute'), who: 'a' };
      assert.equal(tightestOf(await counters.take([charge, charge]))?.remaining, 1);
      assert.equal(tightestOf(await counters.take([charge, charge]))?.remaining, 0);
      assert.equal((await counters.take([charge, charge])).allowed, false);
      assert.deepEqual(await counters.take([]), { allowed: true, tightest: undefined });
    });

    test('of many at once, N are admitted', async () => {
      const counters = await make(manualClock());
      const rules = [ruleOf('5 per minute'), ruleOf('100 per hour')];
      const verdicts = await Promise.all(Array.from({ length: 50 }, () => counters.take(rules.map((rule) => ({ rule, who: 'a' })))));
      assert.equal(verdicts.filter(({ allowed }) => allowed).length, 5);
      assert.equal(tightestOf(await counters.peek([{ rule: rules[1]!, who: 'a' }]))?.remaining, 95);
    });

    test('of any N, spread in any way over less than a window, all are admitted and no more', async () => {
      const spread = fc.record({
        startsAt: fc.nat(10_000_000),
        windowS: fc.integer({ min: 1, max: 90 }),
        fractions: fc.array(fc.double({ min: 0, max: 1, noNaN: true, maxExcluded: true }), { minLength: 1, maxLength: 70 }),
      });
      await fc.assert(
        fc.asyncProperty(spread, async ({ startsAt, windowS, fractions }) => {
          const clock = manualClock(startsAt);
          const counters = await make(clock);
          const charges = [{ rule: ruleOf(`${fractions.length} per ${windowS} seconds`), who: 'a' }];
          const offsets = fractions.map((fraction) => Math.floor(fraction * windowS * 1_000)).sort((a, b) => a - b);
          for (const offset of offsets) {
            clock.advance(startsAt + offset - clock.now());
            assert.equal((await counters.take(charges)).allowed, true);
          }
          clock.advance(startsAt + offsets[0]! + windowS * 1_000 - 1 - clock.now());
          assert.equal((await counters.take(charges)).allowed, false);
        }),
        { numRuns: 100 },
      );
    });

    test('any history means what a plain list of times means', async () => {
      await fc.assert(
        fc.asyncProperty(histories, async ({ startsAt, steps }) => {
          const clock = manualClock(startsAt);
          const counters = await make(clock);
          const plain = plainCounters(clock);
          for (const step of steps) {
            if (step.kind === 'wait') clock.advance(step.ms);
            if (step.kind === 'edge') clock.advance(plain.untilAnEdge(step.nth, step.offMs));
            if (step.kind === 'peek') plain.judge(step.charges, await counters.peek(step.charges));
            if (step.kind === 'take') {
              for (let i = 0; i < step.times; i++) {
                const verdict = await counters.take(step.charges);
                if (verdict.allowed) plain.add(step.charges);
                plain.judge(step.charges, verdict, verdict.allowed);
              }
            }
            if (step.kind === 'retry') {
              const verdict = await counters.peek(step.charges);
              if (verdict.allowed) continue;
              const waitMs = step.wholeSeconds ? Math.ceil(verdict.refusedBy.resetMs / 1_000) * 1_000 : verdict.refusedBy.resetMs;
              clock.advance(verdict.refusedBy.resetMs - 1);
              assert.equal((await counters.peek(step.charges)).allowed, false, 'the wait is no longer than it must be');
              clock.advance(waitMs - verdict.refusedBy.resetMs + 1);
              assert.equal((await counters.take(step.charges)).allowed, true, 'who waits as told is admitted');
              plain.add(step.charges);
            }
          }
        }),
        { numRuns: 300 },
      );
    });
  });
}

/**
 * The meaning, written plainly and apart from any implementation: each key's times of admission, all of them.
 * Up to N = 32 everything is determined. Above, an entry is surely in while it is younger than the window, surely out when
 * it is older than the window and a slot of window/32, and in between an implementation may have it either way.
 */
function plainCounters(clock: Clock) {
  const timesOf = new Map<string, number[]>();
  const keyOf = ({ rule, who }: Charge) => JSON.stringify([rule.id, who]);

  const look = (charge: Charge) => {
    const { max, windowMs } = charge.rule.limit;
    const slackMs = max <= 32 ? 0 : Math.ceil(windowMs / 32);
    const now = clock.now();
    const times = timesOf.get(keyOf(charge)) ?? [];
    const surely = times.filter((at) => now - at < windowMs);
    const maybe = times.filter((at) => now - at < windowMs + slackMs);
    return {
      rule: charge.rule,
      remaining: { least: Math.max(0, max - maybe.length), most: max - surely.length },
      // Nothing counted: 0. Else until the oldest leaves, and of those that may have left already it need not be one.
      resetMs: {
        least: surely.length === 0 ? 0 : Math.max(1, maybe[0]! + windowMs - now),
        most: maybe.length === 0 ? 0 : (surely[0] ?? maybe.at(-1)!) + windowMs + slackMs - now,
      },
    };
  };

  function within(standing: Standing, charges: readonly Charge[]) {
    const charge = charges.find(({ rule }) => rule.id === standing.rule.id);
    assert.ok(charge, 'a verdict speaks of a rule that was asked');
    const { remaining, resetMs } = look(charge);
    between(standing.remaining, remaining, 'remaining');
    between(standing.resetMs, resetMs, 'resetMs');
  }

  return {
    add(charges: readonly Charge[]) {
      for (const charge of charges) timesOf.set(keyOf(charge), [...(timesOf.get(keyOf(charge)) ?? []), clock.now()]);
    },

    /** @param counted whether the verdict is that of a take, after which its own request is in the lists. */
    judge(charges: readonly Charge[], verdict: Verdict, counted = false) {
      const looks = charges.map(look);
      if (verdict.allowed) {
        const room = counted ? 0 : 1;
        assert.ok(
          looks.every(({ remaining }) => remaining.most >= room),
          'never more than N in a window',
        );
        assert.ok(verdict.tightest);
        within(verdict.tightest, charges);
        const share = verdict.tightest.remaining / verdict.tightest.rule.limit.max;
        for (const { rule, remaining } of looks) assert.ok(share <= remaining.most / rule.limit.max, 'the tightest is the tightest');
        return;
      }
      assert.ok(
        looks.some(({ remaining }) => remaining.least === 0),
        'a refusal has a reason',
      );
      assert.equal(verdict.refusedBy.remaining, 0);
      within(verdict.refusedBy, charges);
      for (const { remaining, resetMs } of looks) {
        if (remaining.most === 0) assert.ok(verdict.refusedBy.resetMs >= resetMs.least, 'the longest wait speaks');
      }
    },

    /** Milliseconds from now to where one of the admitted leaves, exactly or with its slot, and a little off. */
    untilAnEdge(nth: number, offMs: number): number {
      const edges = [...timesOf]
        .flatMap(([key, times]) => {
          const { windowMs } = rules.find(({ id }) => id === JSON.parse(key)[0])!.limit;
          return times.flatMap((at) => [at + windowMs, Math.ceil(((Math.floor((at * 32) / windowMs) + 33) * windowMs) / 32)]);
        })
        .filter((at) => at + offMs >= clock.now());
      return edges.length === 0 ? 0 : edges[nth % edges.length]! + offMs - clock.now();
    },
  };
}

// Windows that 32 divides and that it does not, N on both sides of 32.
const rules = [
  '1 per second',
  '3 per 2 seconds by caller',
  '32 per 7 seconds',
  '33 per 7 seconds',
  '40 per second',
  "100 per 3 seconds shared 'all'",
].map(ruleOf);
const someCharges = fc.uniqueArray(fc.record({ rule: fc.constantFrom(...rules), who: fc.constantFrom('a', 'b') }), {
  minLength: 1,
  maxLength: 3,
  selector: ({ rule }) => rule.id,
});
const histories = fc.record({
  startsAt: fc.nat(10_000_000),
  steps: fc.array(
    fc.oneof(
      {
        weight: 5,
        arbitrary: fc.record({
          kind: fc.constant('take' as const),
          charges: someCharges,
          times: fc.oneof(fc.constant(1), fc.integer({ min: 1, max: 50 })),
        }),
      },
      { weight: 1, arbitrary: fc.record({ kind: fc.constant('peek' as const), charges: someCharges }) },
      { weight: 2, arbitrary: fc.record({ kind: fc.constant('wait' as const), ms: fc.oneof(fc.nat(40), fc.nat(1_500), fc.nat(9_000)) }) },
      { weight: 3, arbitrary: fc.record({ kind: fc.constant('edge' as const), nth: fc.nat(1_000), offMs: fc.constantFrom(-1, 0, 1) }) },
      { weight: 2, arbitrary: fc.record({ kind: fc.constant('retry' as const), charges: someCharges, wholeSeconds: fc.boolean() }) },
    ),
    { minLength: 5, maxLength: 40 },
  ),
});

function ruleOf(text: string): Rule {
  const [rule] = rulesFor({ method: 'GET', path: '/notes' }, parseLimits(text));
  assert.ok(rule);
  return rule;
}

async function admitted(counters: Counters, rule: Rule, times: number): Promise<number> {
  let sum = 0;
  for (let i = 0; i < times; i++) if ((await counters.take([{ rule, who: 'a' }])).allowed) sum += 1;
  return sum;
}

function tightestOf(verdict: Verdict): Standing | undefined {
  assert.ok(verdict.allowed);
  return verdict.tightest;
}

function refusedByOf(verdict: Verdict): Standing {
  assert.ok(!verdict.allowed);
  return verdict.refusedBy;
}

function between(value: number, { least, most }: { least: number; most: number }, what: string) {
  assert.ok(value >= least && value <= most, `${what} is ${value}, not between ${least} and ${most}`);
}
