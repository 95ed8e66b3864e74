import assert from 'node:assert/strict';
import { suite, test, type TestContext } from 'node:test';
import { ALIVE_MS, type Instance, type Instances } from './instance.ts';

/**
 * What every implementation of `Instances` must do, as a suite of node:test.
 * @param make gives empty stores that end with the test.
 */
export function instancesConformance(name: string, make: (t: TestContext) => Promise<{ readonly instances: Instances }>): void {
  const NOW = 1_767_225_600_000;
  const instance = (id: string, seenAt = NOW, keysVersion = 0): Instance => ({ id, seenAt, keysVersion });

  suite(name, () => {
    test('each beat says how many live; the last one of each is what counts', async (t) => {
      const { instances } = await make(t);
      assert.deepEqual(await instances.list(NOW), []);
      assert.equal(await instances.beat(instance('a')), 1);
      assert.equal(await instances.beat(instance('b', NOW + 1, 7)), 2);
      assert.equal(await instances.beat(instance('a', NOW + 2, 8)), 2);
      assert.deepEqual(await instances.list(NOW + 2), [instance('a', NOW + 2, 8), instance('b', NOW + 1, 7)]);
    });

    test('who has not been heard of for half a minute lives no more, until it is heard of again', async (t) => {
      const { instances } = await make(t);
      await instances.beat(instance('a'));
      assert.equal(await instances.beat(instance('b', NOW + ALIVE_MS - 1)), 2);
      assert.equal(await instances.beat(instance('b', NOW + ALIVE_MS)), 1);
      assert.deepEqual(await instances.list(NOW + ALIVE_MS), [instance('b', NOW + ALIVE_MS)]);
      assert.equal(await instances.beat(instance('a', NOW + ALIVE_MS)), 2);
    });

    test('one that ends is gone at once, whether it was there or not', async (t) => {
      const { instances } = await make(t);
      await instances.beat(instance('a'));
      await instances.beat(instance('b'));
      for (const id of ['a', 'a', 'nobody']) await instances.remove(id);
      assert.deepEqual(await instances.list(NOW), [instance('b')]);
    });

    test('of many at once, each is counted', async (t) => {
      const { instances } = await make(t);
      const counts = await Promise.all(Array.from({ length: 20 }, (_, i) => instances.beat(instance(`i${i}`))));
      assert.equal(Math.max(...counts), 20);
      assert.equal((await instances.list(NOW)).length, 20);
    });
  });
}
