import assert from 'node:assert/strict';
import { suite, test, type TestContext } from 'node:test';
import type { Stores, Together } from '../stores.ts';
import type { User } from './user.ts';

/**
 * What every implementation of `Users`, and of `Together`, must do, as a suite of node:test.
 * @param make gives empty stores that end with the test.
 */
export function usersConformance(
  name: string,
  make: (t: TestContext) => Promise<Pick<Stores, 'users'> & { readonly together: Together }>,
): void {
  suite(name, () => {
    test('a user is found by id and by any spelling of the name, as it was added', async (t) => {
      const { users } = await make(t);
      const one: User = { id: 'usr_1', username: 'Zoë Ångström', createdAt: 1_767_225_600_123, disabledAt: undefined, isDemo: false };
      const two: User = { id: 'usr_2', username: 'zoe', createdAt: 0, disabledAt: 8_640_000_000_000_000, isDemo: true };
      await users.add(one);
      await users.add(two);
      assert.deepEqual(await users.find('usr_1'), one);
      assert.deepEqual(await users.find('usr_2'), two);
      for (const spelling of ['Zoë Ångström', 'ZOË ÅNGSTRÖM', 'zoe\u0308 a\u030angstro\u0308m', '  zoë \t ångström ', 'ｚｏë ångström'])
        assert.deepEqual(await users.findByName(spelling), one, spelling);
      for (const other of ['zoë', 'zoëångström', '', 'usr_1', "' or 1=1 --", 'z%', '\u0000'])
        assert.equal(await users.findByName(other), undefined, other);
      for (const other of ['usr_3', 'USR_1', '', 'zoe']) assert.equal(await users.find(other), undefined, other);
    });

    test('a name is taken in all its spellings; who comes second changes nothing', async (t) => {
      const { users } = await make(t);
      const first = newUser('usr_1', 'Anna');
      await users.add(first);
      for (const spelling of ['Anna', 'anna', 'ANNA', 'Ａｎｎａ', ' anna ']) {
        await assert.rejects(users.add(newUser('usr_2', spelling)), { code: 'username_taken' });
      }
      assert.deepEqual(await users.list({ limit: 10 }), [first]);
      await users.add(newUser('usr_2', 'Anná'));
    });

    test('of many who take one name at once, one gets it', async (t) => {
      const { users, together } = await make(t);
      const tries = Array.from({ length: 20 }, (_, i) =>
        together((stores) => stores.users.add(newUser(`usr_${i}`, i % 2 ? 'anna' : 'ANNA'))),
      );
      const outcomes = await Promise.allSettled(tries);
      assert.equal(outcomes.filter(({ status }) => status === 'fulfilled').length, 1);
      assert.equal((await users.list({ limit: 100 })).length, 1);
    });

    test('the list is in the order of the names, in pages that lose none and repeat none', async (t) => {
      const { users } = await make(t);
      const names = ['bob', 'Carla', 'anna', 'dave', 'Éva', 'b', 'bo b'];
      for (const [i, username] of names.entries()) await users.add(newUser(`usr_${i}`, username));
      const page = async (after?: string) =>
        (await users.list({ limit: 2, ...(after !== undefined && { after }) })).map(({ username }) => username);

      const seen: string[] = [];
      for (let names = await page(); names.length; names = await page(names.at(-1))) seen.push(...names);
      assert.deepEqual(seen.toSorted(), names.toSorted());
      const plain = seen.filter((username) => /^[\w]+$/.test(username));
      assert.deepEqual(plain, ['anna', 'b', 'bob', 'Carla', 'dave']);
      assert.deepEqual(await page('BOB'), ['Carla', 'dave']);
      assert.deepEqual(await page('anna-not-there'), ['b', 'bo b']);
      assert.equal((await users.list({ limit: 3 })).length, 3);
    });

    test('disabling, enabling and removing say whether there was anyone', async (t) => {
      const { users } = await make(t);
      await users.add(newUser('usr_1', 'anna'));
      await users.add(newUser('usr_2', 'bob'));
      assert.equal(await users.setDisabled('usr_1', 5), true);
      assert.equal((await users.find('usr_1'))?.disabledAt, 5);
      assert.equal((await users.find('usr_2'))?.disabledAt, undefined);
      assert.equal(await users.setDisabled('usr_1', undefined), true);
      assert.equal((await users.find('usr_1'))?.disabledAt, undefined);
      assert.equal(await users.setDisabled('usr_3', 5), false);

      assert.equal(await users.remove('usr_1'), true);
      assert.equal(await users.remove('usr_1'), false);
      assert.equal(await users.find('usr_1'), undefined);
      assert.equal(await users.findByName('anna'), undefined);
      assert.ok(await users.find('usr_2'));
      await users.add(newUser('usr_4', 'anna'));
      assert.equal((await users.findByName('anna'))?.id, 'usr_4');
    });

    test("the demo's mark is found until it is cleared", async (t) => {
      const { users } = await make(t);
      await users.add(newUser('usr_1', 'anna'));
      assert.equal(await users.findDemo(), undefined);
      await users.add({ ...newUser('usr_2', 'testuser'), isDemo: true });
      assert.equal((await users.findDemo())?.id, 'usr_2');
      await users.unmarkDemo('usr_1');
      assert.equal((await users.findDemo())?.id, 'usr_2');
      await users.unmarkDemo('usr_2');
      assert.equal(await users.findDemo(), undefined);
      assert.equal((await users.find('usr_2'))?.isDemo, false);
    });

    test('together: what was written before a throw is gone, and the throw arrives as it was', async (t) => {
      const { users, together } = await make(t);
      const why = new Error('halfway');
      const halfway = together(async (stores) => {
        await stores.users.add(newUser('usr_1', 'anna'));
        assert.ok(await stores.users.find('usr_1'), 'seen from within');
        throw why;
      });
      await assert.rejects(halfway, (error) => error === why);
      assert.equal(await users.find('usr_1'), undefined);
      await assert.rejects(
        together(async (stores) => {
          await stores.users.add(newUser('usr_1', 'anna'));
          await stores.users.add(newUser('usr_2', 'ANNA'));
        }),
        { code: 'username_taken' },
      );
      assert.deepEqual(await users.list({ limit: 10 }), []);
      assert.equal(
        await together(async (stores) => {
          await stores.users.add(newUser('usr_1', 'anna'));
          return 7;
        }),
        7,
      );
      assert.ok(await users.find('usr_1'));
    });

    test('together: nobody outside sees a half', async (t) => {
      const { users, together } = await make(t);
      const { promise: mayEnd, resolve: end } = Promise.withResolvers<void>();
      const whole = together(async (stores) => {
        await stores.users.add(newUser('usr_1', 'anna'));
        await mayEnd;
        await stores.users.add(newUser('usr_2', 'bob'));
      });
      const outside = users.list({ limit: 10 });
      setImmediate(end);
      await whole;
      assert.notEqual((await outside).length, 1);
    });
  });
}

const newUser = (id: string, username: string): User => ({
  id,
  username,
  createdAt: 1_767_225_600_000,
  disabledAt: undefined,
  isDemo: false,
});
