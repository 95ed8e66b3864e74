import assert from 'node:assert/strict';
import { test } from 'node:test';
import { setImmediate as turn } from 'node:timers/promises';
import { inOneTrip } from '../src/in-one-trip.ts';

const double = (trips: (readonly number[])[]) =>
  inOneTrip<number, number>({ most: 3, patienceMs: 5 }, async (questions) => {
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
  const ask = inOneTrip<number, number>({ most: 2, patienceMs: 5 }, async (questions) => {
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

test('what is asked while a trip is on its way goes together when that is back', async () => {
  const trips: (readonly number[])[] = [];
  const { promise: isBack, resolve } = Promise.withResolvers<void>();
  const ask = inOneTrip<number, number>({ most: 9, patienceMs: 60_000 }, async (questions) => {
    trips.push(questions);
    if (trips.length === 1) await isBack;
    return questions;
  });
  const first = ask(1);
  await turn();
  const others = [ask(2)];
  await turn();
  others.push(ask(3));
  await turn();
  assert.deepEqual(trips, [[1]]);
  resolve();
  assert.deepEqual(await Promise.all([first, ...others]), [1, 2, 3]);
  assert.deepEqual(trips, [[1], [2, 3]]);
});

test('who has waited long enough for a trip waits for it no more, nor does it hold up anybody when it comes back or fails', async () => {
  const trips: (readonly number[])[] = [];
  const ends: (() => void)[] = [];
  const ask = inOneTrip<number, number>({ most: 9, patienceMs: 1 }, async (questions) => {
    trips.push(questions);
    if (trips.length < 3) await new Promise<void>((back, fails) => ends.push(trips.length === 1 ? () => fails(new Error('away')) : back));
    return questions;
  });
  const first = ask(1);
  await turn();
  const second = ask(2);
  while (trips.length < 2) await turn();
  const third = ask(3);
  ends[0]?.();
  await assert.rejects(first, /away/);
  assert.equal(await third, 3, 'while the second is still away');
  ends[1]?.();
  assert.equal(await second, 2);
  assert.deepEqual(trips, [[1], [2], [3]]);
});
