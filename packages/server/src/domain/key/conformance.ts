import assert from 'node:assert/strict';
import { suite, test, type TestContext } from 'node:test';
import type { Stores, Together } from '../stores.ts';
import { ALWAYS, type StoredKey } from './key.ts';

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

    test('the version grows with each change, also within a transaction, and only once that is done; what changes nothing leaves it', async (t) => {
      const { keys, together } = await make(t);
      let before = await keys.version();
      const grows = async (): Promise<void> => {
        const now = await keys.version();
        assert.ok(now > before, `${now} after ${before}`);
        before = now;
      };
      await keys.add(newKey('a', 1));
      await grows();
      await together((stores) => stores.keys.add(newKey('b', 2)));
      await grows();
      await keys.compromise('a', 3);
      await grows();
      await keys.remove('b');
      await grows();
      const undone = together(async (stores) => {
        await stores.keys.add(newKey('c', 4));
        throw new Error('undone');
      });
      await assert.rejects(undone, /undone/);
      assert.equal(await keys.version(), before);

      await keys.add(newKey('d', 5));
      await grows();
      assert.equal(await keys.add(newKey('a', 1)), 'present');
      assert.equal(await keys.add(newKey('z', 1), ALWAYS), 'present');
      assert.equal(await keys.compromise('a', 4), 'already');
      assert.equal(await keys.compromise('z', 4), 'unknown');
      assert.equal(await keys.reseal('z', 'one', 'another'), 'changed');
      for (const kid of ['a', 'z']) await keys.remove(kid);
      assert.equal(await keys.version(), before, 'several that start at once all try to make the first key');
    });

    test('always: only where there is no key at all', async (t) => {
      const { keys, together } = await make(t);
      const first = await Promise.all(
        Array.from({ length: 10 }, (_, i) => together((stores) => stores.keys.add(newKey(`k${i}`, 1), ALWAYS))),
      );
      assert.equal(first.filter((outcome) => outcome === 'added').length, 1);
      assert.equal((await keys.list()).length, 1);
      await keys.add(newKey('z', 1));
      assert.equal(await keys.add(newKey('y', 1), ALWAYS), 'present');
      assert.equal((await keys.list()).length, 2);
    });

    test('a span: only where no key begins to sign behind its start and up to its end', async (t) => {
      const { keys, together } = await make(t);
      await keys.add(newKey('a', 1_000));
      assert.equal(await keys.add(newKey('b', 3_000), { after: 999, until: 9_000 }), 'present');
      assert.equal(await keys.add(newKey('b', 3_000), { after: 0, until: 1_000 }), 'present');
      const many = await Promise.all(
        Array.from({ length: 10 }, (_, i) =>
          together((stores) => stores.keys.add(newKey(`k${i}`, 2_000 + i), { after: 1_000, until: 2_500 + i })),
        ),
      );
      assert.equal(many.filter((outcome) => outcome === 'added').length, 1);
      assert.equal(await keys.add(newKey('c', 500), { after: 0, until: 999 }), 'added');
    });

    test('a compromised key keeps its name, its kind and its times, and nothing else; the first time counts', async (t) => {
      const { keys } = await make(t);
      const [a, b] = [newKey('a', 1_000), newKey('b', 2_000)];
      for (const key of [a, b]) await keys.add(key);
      assert.equal(await keys.compromise('c', 5), 'unknown');
      assert.equal(await keys.compromise('a', 1_767_225_600_005), 'compromised');
      assert.equal(await keys.compromise('a', 6), 'already');
      const tombstone = { ...a, publicJwk: undefined, sealedPrivateJwk: '', compromisedAt: 1_767_225_600_005 };
      assert.deepEqual(await keys.list(), [tombstone, b]);
      await keys.add(newKey('A', 1_000));
      assert.deepEqual(
        (await keys.list()).map(({ kid }) => kid),
        ['a', 'A', 'b'],
        'before the one that has its time',
      );
      await keys.remove('A');

      await keys.remove('a');
      assert.equal(await keys.add(a), 'present', 'it cannot come back');
      assert.equal(await keys.reseal('a', a.sealedPrivateJwk, 'another'), 'changed');
      assert.deepEqual(await keys.list(), [tombstone, b]);
      assert.equal(await keys.add(newKey('d', 900), { after: 0, until: 1_000 }), 'added', 'no key signs in its time');
    });

    test('of many that seal a key anew, one does', async (t) => {
      const { keys, together } = await make(t);
      for (const kid of ['a', 'b']) await keys.add(newKey(kid, 1));
      const outcomes = await Promise.all(
        Array.from({ length: 10 }, (_, i) => together((stores) => stores.keys.reseal('a', 'sealed a', `again ${i}`))),
      );
      const winners = outcomes.flatMap((outcome, i) => (outcome === 'resealed' ? [i] : []));
      assert.equal(winners.length, 1);
      assert.deepEqual(await keys.list(), [{ ...newKey('a', 1), sealedPrivateJwk: `again ${winners[0]}` }, newKey('b', 1)]);
      assert.equal(await keys.reseal('c', '', 'x'), 'changed');
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
          await stores.keys.add(newKey('b', 1), ALWAYS);
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
  compromisedAt: undefined,
});
