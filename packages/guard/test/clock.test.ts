import assert from 'node:assert/strict';
import { test, type TestContext } from 'node:test';
import { manualClock, parseDuration, steadyClock, steeredClock, systemClock } from '../src/index.ts';

/** A machine whose two clocks are set by hand: the one on the wall, and the one that only ever goes on. */
function machine(t: TestContext) {
  const at = { wall: Date.UTC(2026, 0, 1), steady: 5_000.25 };
  t.mock.method(Date, 'now', () => at.wall);
  t.mock.method(performance, 'now', () => at.steady);
  return {
    at,
    pass: (ms: number) => {
      at.wall += ms;
      at.steady += ms;
    },
  };
}

test('the clock of the system says wall time, in whole milliseconds', () => {
  const before = Date.now();
  const now = systemClock().now();
  assert.ok(Number.isInteger(now) && now >= before - 1 && now <= Date.now() + 1);
});

test('time that passes is told, however the wall clock is set back', (t) => {
  const { at, pass } = machine(t);
  const clock = systemClock(() => assert.fail('a step back is not followed'));
  const start = clock.now();
  pass(60_000);
  assert.equal(clock.now(), start + 60_000);
  at.wall -= 3_600_000;
  assert.equal(clock.now(), start + 60_000, 'an hour back changes nothing');
  pass(1_000);
  assert.equal(clock.now(), start + 61_000, 'and time goes on from there');
});

test('a forward step of more than a second is followed, once, and told', (t) => {
  const { at, pass } = machine(t);
  const steps: number[] = [];
  const clock = systemClock((stepMs) => steps.push(stepMs));
  const start = clock.now();
  at.wall += 1_000;
  assert.equal(clock.now(), start, 'a second is no step');
  at.wall += 7_199_000;
  assert.equal(clock.now(), start + 7_200_000);
  assert.equal(clock.now(), start + 7_200_000);
  pass(5);
  assert.equal(clock.now(), start + 7_200_005);
  assert.deepEqual(steps, [7_200_000]);
});

test('it never says less than before, whatever is done to the wall clock', (t) => {
  const { at } = machine(t);
  const clock = systemClock();
  let last = clock.now();
  for (const step of [0, -5_000, 900, 1_100, -86_400_000, 86_400_500, 0.4, 1_000.6, -1, 86_400_000]) {
    at.wall += step;
    at.steady += 0.3;
    const now = clock.now();
    assert.ok(now >= last, `${step}: ${now} after ${last}`);
    last = now;
  }
});

test('a steady clock follows no step, and tells of each one forward', (t) => {
  const { at, pass } = machine(t);
  const steps: number[] = [];
  const clock = steadyClock((stepMs) => steps.push(stepMs));
  const start = clock.now();
  for (const step of [3_600_000, 500, -7_200_000, 3_600_000]) {
    at.wall += step;
    pass(10);
    clock.now();
  }
  assert.equal(clock.now(), start + 40);
  assert.deepEqual(steps, [3_600_000, 3_600_000]);
});

test('a steered clock goes by the other one from the first time on, and stands still rather than go back', (t) => {
  const { pass } = machine(t);
  const own = steadyClock();
  const clock = steeredClock(own);
  const start = own.now();
  assert.equal(clock.now(), start);
  clock.steer(-3_600_000);
  assert.equal(clock.now(), start - 3_600_000, 'what was said before was a guess');
  clock.steer(-3_600_100);
  assert.equal(clock.now(), start - 3_600_000);
  pass(99);
  assert.equal(clock.now(), start - 3_600_000);
  pass(2);
  assert.equal(clock.now(), start - 3_599_999);
  clock.steer(0);
  assert.equal(clock.now(), start + 101);
});

test('a manual clock moves when told to, and only forward', () => {
  const clock = manualClock(1_000);
  assert.equal(clock.now(), 1_000);
  clock.advance(0);
  clock.advance(250);
  assert.equal(clock.now(), 1_250);
  for (const ms of [-1, Number.NaN]) assert.throws(() => clock.advance(ms), RangeError);
  assert.equal(clock.now(), 1_250);
});

test('a duration has a unit, or is 0', () => {
  const durations: [text: string, ms: number][] = [
    ['0', 0],
    ['0 s', 0],
    ['1ms', 1],
    ['90s', 90_000],
    ['90 S', 90_000],
    [' 1 second ', 1_000],
    ['2 seconds', 2_000],
    ['15 minutes', 900_000],
    ['15m', 900_000],
    ['5 mins', 300_000],
    ['1 hour', 3_600_000],
    ['24h', 86_400_000],
    ['7 days', 604_800_000],
    ['007 d', 604_800_000],
  ];
  for (const [text, ms] of durations) assert.equal(parseDuration(text), ms, text);
  for (const text of [
    '',
    '5',
    'minutes',
    '-5 s',
    '1.5 s',
    '1e3 s',
    '5  s',
    '5 s s',
    '5 fortnights',
    '5 mss',
    '5 hs',
    '5 __proto__',
    '5 constructor',
    '9999999999 s',
    '٣ s',
    '5\ns',
  ]) {
    assert.throws(() => parseDuration(text), /is not a duration: write/, JSON.stringify(text));
  }
});
