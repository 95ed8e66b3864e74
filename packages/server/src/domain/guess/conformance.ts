import assert from 'node:assert/strict';
import { suite, test, type TestContext } from 'node:test';
import type { Stores, Together } from '../stores.ts';
import { deviceBudget, type Guess, type GuessPlace, strangersBudget } from './guess.ts';

const MINUTE_MS = 60_000;
const DAY_MS = 86_400_000;
const START = 1_767_225_600_000;

/**
 * What every implementation of `Guesses` must do, as a suite of node:test.
 * @param make gives empty stores that end with the test.
 */
export function guessesConformance(
  name: string,
  make: (t: TestContext) => Promise<Pick<Stores, 'guesses'> & { readonly together: Together }>,
): void {
  suite(name, () => {
    test('five at once, then one after each pause; what is refused changes nothing; no name minds another', async (t) => {
      const { guesses } = await make(t);
      for (let i = 0; i < 5; i += 1) assert.deepEqual(await guesses.take(anna, START + i), { key: 'anna', at: START + i });
      for (let i = 0; i < 20; i += 1) assert.deepEqual(await guesses.take(anna, START + 5), { retryAt: START + 4 + MINUTE_MS });
      assert.deepEqual(await guesses.take(place('ben'), START + 5), { key: 'ben', at: START + 5 });
      const sixth = START + 4 + MINUTE_MS;
      assert.deepEqual(await guesses.take(anna, sixth), { key: 'anna', at: sixth });
      assert.deepEqual(await guesses.take(anna, sixth), { retryAt: sixth + 2 * MINUTE_MS });
    });

    test('of fifty at once, as many are let in as the budget has', async (t) => {
      const { together } = await make(t);
      for (const [at, budget, expected] of [
        ['anna', strangersBudget, 5],
        ["anna's laptop", deviceBudget, 10],
      ] as const) {
        const all = await Promise.all(
          Array.from({ length: 50 }, () => together(({ guesses }) => guesses.take({ key: at, budget }, START))),
        );
        assert.equal(all.filter(isLetIn).length, expected);
      }
    });

    test('of fifty at once that are no transaction, too', async (t) => {
      const { guesses } = await make(t);
      const all = await Promise.all(Array.from({ length: 50 }, (_, i) => guesses.take(i % 2 ? anna : sharing('anna', 100), START)));
      assert.equal(all.filter(isLetIn).length, 5);
    });

    test('what is given back does not count; it is given back once; what has left since is no trouble', async (t) => {
      const { guesses } = await make(t);
      const taken = [START, START, START + 1, START + 2, START + 3];
      const all: Guess[] = [];
      for (const at of taken) all.push(letIn(await guesses.take(anna, at)));
      await guesses.giveBack(letIn(all[1]));
      await guesses.take(anna, START + 4);
      assert.deepEqual(await guesses.take(anna, START + 4), { retryAt: START + 4 + MINUTE_MS });
      for (const guess of all.slice(2)) await guesses.giveBack(guess);
      for (const guess of all.slice(2)) await guesses.giveBack(guess);
      for (let i = 0; i < 3; i += 1) letIn(await guesses.take(anna, START + 5));
      assert.ok('retryAt' in (await guesses.take(anna, START + 5)));
      await guesses.giveBack({ key: 'ben', at: START });
      assert.equal(await guesses.clear(place('ben'), START), 0);
    });

    test('given back in a transaction that is thrown away, it still counts', async (t) => {
      const { guesses, together } = await make(t);
      const all: Guess[] = [];
      for (let i = 0; i < 5; i += 1) all.push(letIn(await guesses.take(anna, START)));
      await assert.rejects(
        together(async (stores) => {
          for (const guess of all) await stores.guesses.giveBack(guess);
          throw new Error('halfway');
        }),
        /halfway/,
      );
      assert.ok('retryAt' in (await guesses.take(anna, START)));
    });

    test('cleared, all begins anew; it says how many had counted', async (t) => {
      const { guesses } = await make(t);
      for (let i = 0; i < 5; i += 1) await guesses.take(anna, START);
      await guesses.take(place('ben'), START);
      assert.equal(await guesses.clear(anna, START + 1), 5);
      assert.equal(await guesses.clear(anna, START + 1), 0);
      for (let i = 0; i < 5; i += 1) letIn(await guesses.take(anna, START + 1));
      assert.equal(await guesses.clear(anna, START + 1 + DAY_MS), 0, 'a day later none counts any more');
      assert.equal(await guesses.clear(place('ben'), START + 1), 1);
    });

    test('a full table: newcomers share, who was there has its own; with room again, a share is taken along', async (t) => {
      const { guesses } = await make(t);
      const full = (key: string) => sharing(key, 2);
      for (const key of ['anna', 'ben']) letIn(await guesses.take(full(key), START));
      for (const key of ['carl', 'dora', 'carl', 'emil', 'dora'])
        assert.deepEqual(await guesses.take(full(key), START), { key: 'shared', at: START }, key);
      for (const key of ['carl', 'dora', 'emil', 'nobody']) assert.ok('retryAt' in (await guesses.take(full(key), START)), key);
      for (let i = 0; i < 4; i += 1) assert.deepEqual(await guesses.take(full('anna'), START), { key: 'anna', at: START });
      assert.ok('retryAt' in (await guesses.take(full('anna'), START)));
      letIn(await guesses.take(place('device'), START), 'who may not share needs no room');

      const roomy = sharing('carl', 100);
      assert.deepEqual(await guesses.take(roomy, START + MINUTE_MS), { key: 'carl', at: START + MINUTE_MS });
      assert.deepEqual(await guesses.take(roomy, START + MINUTE_MS), { retryAt: START + 3 * MINUTE_MS }, 'as the seventh');
      assert.equal(await guesses.clear(full('dora'), START), 5);
      letIn(await guesses.take(full('dora'), START), 'though what it shared is still there');
      assert.ok('retryAt' in (await guesses.take(full('emil'), START)));
    });

    test('a full table of many, which is not counted each time: not one more than it has room for', async (t) => {
      const { together } = await make(t);
      const keys: string[] = [];
      for (let i = 0; i < 140; i += 1)
        keys.push(letIn(await together(({ guesses }) => guesses.take({ ...sharing(`name ${i}`, 130), budget: deviceBudget }, START))).key);
      assert.equal(keys.filter((key) => key === 'shared').length, 10);
    });

    test('what counts no more goes, in batches; what counts stays', async (t) => {
      const { guesses } = await make(t);
      for (let i = 0; i < 10; i += 1) await guesses.take(place(`name ${i}`), START + i);
      assert.equal(await guesses.deleteDead(START + DAY_MS - 1, 5), 0);
      assert.equal(await guesses.deleteDead(START + DAY_MS + 6, 5), 5);
      assert.equal(await guesses.deleteDead(START + DAY_MS + 6, 5), 2);
      assert.equal(await guesses.deleteDead(START + DAY_MS + 6, 5), 0);
      assert.equal(await guesses.clear(place('name 9'), START + DAY_MS), 1);
      const gone = letIn(await guesses.take(place('name 8'), START + DAY_MS));
      await guesses.deleteDead(START + 3 * DAY_MS, 50);
      await guesses.giveBack(gone);
    });
  });
}

const place = (key: string): GuessPlace => ({ key, budget: strangersBudget });
const anna = place('anna');
const sharing = (key: string, beyond: number): GuessPlace => ({ ...place(key), overflow: { key: 'shared', beyond } });

const isLetIn = (taken: Guess | { readonly retryAt: number }): taken is Guess => 'at' in taken;

function letIn(taken: Guess | { readonly retryAt: number } | undefined, why = 'it was let in'): Guess {
  assert.ok(taken && isLetIn(taken), why);
  return taken;
}
