import assert from 'node:assert/strict';
import { test } from 'node:test';
import { setImmediate as turn } from 'node:timers/promises';
import { inOneTrip } from '../src/in-one-trip.ts';

const double = (trips: (readonly number[])[]) =>
  inOneTrip<number, number>(3, async (questions) => {
    trips.push(questions);
    return questions.map((question) => 2 * question);
  });

test('what is asked in one turn goes together, and each gets its own answer', async () => {
  const trips: (readonly number[])[] = [];
  const ask = double(trips);
  assert.deepEqual(await Promise.all([ask(1), ask(2)]), [2, 4]);
  assert.equal(await ask(3), 6);
  assert.deepEqual(trips, [[1, 2], [3]]);
});

test('so many are not kept waiting for more', async () => {
  const trips: (readonly number[])[] = [];
  const ask = double(trips);
  const all = [1, 2, 3, 4].map(ask);
  assert.deepEqual(trips, [[1, 2, 3]], 'at once');
  assert.deepEqual(await Promise.all(all), [2, 4, 6, 8]);
  await turn();
  assert.deepEqual(trips, [[1, 2, 3], [4]]);
});

test('a trip that fails fails for all that were on it, and for nobody else', async () => {
  let fails = true;
  const ask = inOneTrip<number, number>(2, async (questions) => {
    if (fails) throw new Error('away');
    return questions;
  });
  const first = [ask(1), ask(2)];
  const rejected = await Promise.allSettled(first);
  fails = false;
  assert.equal(await ask(3), 3);
  assert.deepEqual(
    rejected.map(({ status }) => status),
    ['rejected', 'rejected'],
  );
});
