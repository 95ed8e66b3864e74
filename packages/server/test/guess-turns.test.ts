import assert from 'node:assert/strict';
import { suite, test } from 'node:test';
import { setTimeout as wait } from 'node:timers/promises';
import { guessTurns } from '../src/domain/guess/guess-turns.ts';

/** A budget of so many, as a store would have it: counted when taken, and given back or not when the work is done. */
function budgetOf(most: number) {
  let counted = 0;
  let looks = 0;
  return {
    looks: () => looks,
    take: async () => {
      looks += 1;
      if (counted === most) return { retryAt: 60_000 };
      counted += 1;
      return { key: 'a', at: 0 };
    },
    work: (isRight: boolean) => async () => {
      await wait(2);
      if (isRight) counted -= 1;
      return isRight;
    },
  };
}

suite('turns at one name', () => {
  test('right ones at the same moment wait for each other, and all are let in', async () => {
    const { take, work, looks } = budgetOf(5);
    const turns = guessTurns();
    const all = await Promise.all(Array.from({ length: 60 }, () => turns.with('a', take, work(true))));
    assert.equal(all.filter((one) => 'done' in one && one.done).length, 60);
    assert.ok(looks() < 180, `the store was asked ${looks()} times`);
  });

  test('wrong ones: the budget is looked at, and the others are refused, once it is known', async () => {
    const { take, work } = budgetOf(5);
    const turns = guessTurns();
    const all = await Promise.all(Array.from({ length: 60 }, () => turns.with('a', take, work(false))));
    assert.equal(all.filter((one) => 'done' in one).length, 5);
    assert.deepEqual(all[59], { retryAt: 60_000 });
    assert.deepEqual(await turns.with('a', take, work(true)), { retryAt: 60_000 }, 'at once');
  });

  test('of both together no more wrong ones are looked at than the budget has', async () => {
    const { take, work } = budgetOf(5);
    const turns = guessTurns();
    const all = await Promise.all(Array.from({ length: 60 }, (_, i) => turns.with('a', take, work(i % 2 === 0))));
    assert.ok(all.filter((one) => 'done' in one && !one.done).length <= 5);
  });

  test('each name has its own turns', async () => {
    const [one, other] = [budgetOf(1), budgetOf(1)];
    const turns = guessTurns();
    const stuck = Promise.withResolvers<string>();
    const first = turns.with('a', one.take, () => stuck.promise);
    assert.deepEqual(await turns.with('b', other.take, other.work(true)), { done: true });
    stuck.resolve('late');
    assert.deepEqual(await first, { done: 'late' });
  });

  test('what fails gives its turn on, and who is refused by the store is told so', async () => {
    const { take, work } = budgetOf(1);
    const turns = guessTurns();
    const all = await Promise.allSettled([
      turns.with('a', take, async () => {
        await work(true)();
        throw new Error('mine');
      }),
      turns.with(
        'a',
        () => Promise.reject(new Error('store')),
        async () => 0,
      ),
      turns.with('a', take, work(true)),
    ]);
    assert.deepEqual(
      all.map((one) => (one.status === 'rejected' ? one.reason.message : one.value)),
      ['mine', 'store', { done: true }],
    );
  });

  test('no more wait than may, and nobody for longer than that', async () => {
    const { take, work } = budgetOf(1);
    const turns = guessTurns({ maxWaiting: 2, patienceMs: 30 });
    const stuck = Promise.withResolvers<void>();
    const first = turns.with('a', take, () => stuck.promise.then(work(true)));
    const waiting = Promise.allSettled([1, 2].map(() => turns.with('a', take, work(true))));
    await wait(1);
    await assert.rejects(turns.with('a', take, work(true)), { code: 'server_busy' });
    for (const one of await waiting) assert.equal(one.status === 'rejected' && one.reason.code, 'server_busy');
    stuck.resolve();
    assert.deepEqual(await first, { done: true });
    assert.deepEqual(await turns.with('a', take, work(true)), { done: true });
  });
});
