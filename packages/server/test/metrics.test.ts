import assert from 'node:assert/strict';
import { test } from 'node:test';
import { manualClock } from '@portcullis/guard';
import fc from 'fast-check';
import { parseExposition } from '../../../test/support/scrape.ts';
import { exposition, type Format } from '../src/lib/exposition.ts';
import { bucketsOf, histogram } from '../src/lib/histogram.ts';
import { tally } from '../src/lib/tally.ts';
import { traffic } from '../src/lib/traffic.ts';
import { atLeisure } from '../src/metrics.ts';

const help = 'Something that is counted.';

for (const format of ['prometheus', 'openmetrics'] satisfies Format[])
  test(`${format}: any text in a label and any number is read as it was written`, () => {
    const label = fc.string({ unit: fc.constantFrom(...'\\"\n\r{}=,# +aé\u{2028}\u{1f600}') });
    const value = fc.double({ noNaN: true, noDefaultInfinity: true }).map((number) => number + 0); // no negative zero
    fc.assert(
      fc.property(label, label, value, (a, b, value) => {
        const text = exposition([{ name: 'x_total', type: 'counter', help, samples: [{ labels: { a, b }, value }] }], format);
        assert.deepEqual(parseExposition(text, format).samples, [{ name: 'x_total', labels: { a, b }, value }]);
      }),
    );
  });

test('a histogram counts each value in every bucket that it is not above', () => {
  const took = histogram([0.1, 1]);
  for (const seconds of [0, 0.1, 0.1001, 1, 7]) took.observe(seconds);
  assert.deepEqual(took.cumulated(), [
    [0.1, 2],
    [1, 4],
    [Infinity, 5],
  ]);
  const text = exposition(
    [{ name: 'x_seconds', type: 'histogram', help, samples: [{ labels: { route: '/x' }, value: bucketsOf(took) }] }],
    'prometheus',
  );
  assert.match(text, /^x_seconds_bucket\{route="\/x",le="1\.0"\} 4$/m);
  assert.equal(parseExposition(text, 'prometheus').value('x_seconds_count'), 5);
});

test('names that somebody makes up end in one', () => {
  const counts = tally();
  for (let i = 0; i < 2_000; i++) counts.add(`name ${i}`);
  counts.add('name 0');
  assert.equal([...counts.all()].length, 501);
  assert.deepEqual([counts.of('name 0'), counts.of('other')], [2, 1_500]);
});

test('methods that nobody knows are one', () => {
  const seen = traffic();
  for (const method of ['GET', 'BREW', 'PROPFIND', 'get', '__proto__', ''])
    seen.answered({ route: undefined, method, status: 404, tookMs: 1 });
  assert.deepEqual(
    [...seen.routes()].map(({ route, method, statuses }) => [route, method, ...statuses()]),
    [
      ['(none)', 'GET', [404, 1]],
      ['(none)', 'other', [404, 5]],
    ],
  );
});

test('what is costly is asked every ten seconds at most, and a thousandth of the time; a failure is forgotten at once', async () => {
  const clock = manualClock();
  let [asked, takesMs, fails] = [0, 0, false];
  const ask = atLeisure(clock, async () => {
    asked += 1;
    clock.advance(takesMs);
    if (fails) throw new Error('away');
    return asked;
  });
  assert.deepEqual([await ask(), await ask()], [1, 1]);
  clock.advance(9_999);
  assert.equal(await ask(), 1);
  clock.advance(1);
  takesMs = 50;
  assert.equal(await ask(), 2);
  clock.advance(49_949);
  assert.equal(await ask(), 2);
  clock.advance(1);
  fails = true;
  assert.equal(await ask(), undefined);
  [fails, takesMs] = [false, 0];
  assert.equal(await ask(), 4);
});
