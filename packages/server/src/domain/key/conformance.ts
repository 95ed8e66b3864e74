import assert from 'node:assert/strict';
import { suite, test, type TestContext } from 'node:test';
import type { Stores, Together } from '../stores.ts';
import type { StoredKey } from './key.ts';

/**
 * What every implementation of `Keys` must do, as a suite of node:test.
 * @param make gives empty stores that end with the test.
 */
export function keysConformance(
  name: string,
  make: (t: TestContext) => Promise<Pick<Stores, 'keys'> & { readonly together: Together }>,
): void {
  suite(name, () => {
    test('keys come back as they were added, in the order in which they sign', async (t) => {
      const { keys } = await make(t);
      const shared: StoredKey = { ...newKey('c', 3), alg: 'HS256', origin: 'imported', publicJwk: undefined, createdAt: 9 };
      const later = newKey('a', 1_767_225_600_002);
      const [twinA, twinB] = [newKey('d', 4), newKey('e', 4)];
      for (const key of [twinB, later, shared, twinA]) assert.equal(await keys.add(key), 'added');
      assert.deepEqual(await keys.list(), [shared, twinA, twinB, later]);
    });

    test('a key that is there stays as it is', async (t) => {
      const { keys } = await make(t);
      const key = newKey('a', 1);
      await keys.add(key);
      assert.equal(await keys.add({ ...key, alg: 'RS256', activeFrom: 7, sealedPrivateJwk: 'another' }), 'present');
      assert.deepEqual(await keys.list(), [key]);
      assert.equal(await keys.add(newKey('A', 1)), 'added');
    });

    test("'if-none': only where there is no key at all", async (t) => {
      const { keys, together } = await make(t);
      const first = await Promise.all(
        Array.from({ length: 10 }, (_, i) => together((stores) => stores.keys.add(newKey(`k${i}`, 1), 'if-none'))),
      );
      assert.equal(first.filter((outcome) => outcome === 'added').length, 1);
      assert.equal((await keys.list()).length, 1);
      await keys.add(newKey('z', 1));
      assert.equal(await keys.add(newKey('y', 1), 'if-none'), 'present');
      assert.equal((await keys.list()).length, 2);
    });

    test('a key is removed alone, and may come again', async (t) => {
      const { keys } = await make(t);
      for (const kid of ['a', 'b']) await keys.add(newKey(kid, 1));
      await keys.remove('a');
      await keys.remove('c');
      assert.deepEqual(
        (await keys.list()).map(({ kid }) => kid),
        ['b'],
      );
      assert.equal(await keys.add(newKey('a', 1)), 'added');
    });

    test('what is thrown away was never added nor removed', async (t) => {
      const { keys, together } = await make(t);
      await keys.add(newKey('a', 1));
      await assert.rejects(
        together(async (stores) => {
          await stores.keys.remove('a');
          await stores.keys.add(newKey('b', 1), 'if-none');
          throw new Error('halfway');
        }),
        /halfway/,
      );
      assert.deepEqual(await keys.list(), [newKey('a', 1)]);
    });
  });
}

const newKey = (kid: string, activeFrom: number): StoredKey => ({
  kid,
  alg: 'EdDSA',
  origin: 'made',
  createdAt: 1,
  activeFrom,
  publicJwk: `{"kid":"${kid}"}`,
  sealedPrivateJwk: `sealed ${kid}`,
});
