import assert from 'node:assert/strict';
import { suite, test, type TestContext } from 'node:test';
import type { Stores, Together } from '../stores.ts';

/**
 * What every implementation of `Credentials` must do, as a suite of node:test.
 * @param make gives empty stores that end with the test.
 */
export function credentialsConformance(
  name: string,
  make: (t: TestContext) => Promise<Pick<Stores, 'credentials'> & { readonly together: Together }>,
): void {
  suite(name, () => {
    test('each password that is set replaces the one before and raises the version, for its user alone', async (t) => {
      const { credentials } = await make(t);
      assert.equal(await credentials.findPassword('usr_1'), undefined);
      await credentials.setPassword('usr_1', 'one', 1_767_225_600_001);
      assert.deepEqual(await credentials.findPassword('usr_1'), {
        userId: 'usr_1',
        passwordHash: 'one',
        version: 1,
        changedAt: 1_767_225_600_001,
      });
      await credentials.setPassword('usr_2', 'other', 5);
      await credentials.setPassword('usr_1', 'two', 1_767_225_600_002);
      await credentials.setPassword('usr_1', 'two', 1_767_225_600_003);
      assert.deepEqual(await credentials.findPassword('usr_1'), {
        userId: 'usr_1',
        passwordHash: 'two',
        version: 3,
        changedAt: 1_767_225_600_003,
      });
      assert.deepEqual(await credentials.findPassword('usr_2'), { userId: 'usr_2', passwordHash: 'other', version: 1, changedAt: 5 });
    });

    test('many changes at once: each has its version, the last one counts', async (t) => {
      const { credentials, together } = await make(t);
      await Promise.all(
        Array.from({ length: 20 }, (_, i) => together((stores) => stores.credentials.setPassword('usr_1', `hash ${i}`, i))),
      );
      assert.equal((await credentials.findPassword('usr_1'))?.version, 20);
    });

    test('removed, it is gone, and nobody else is touched', async (t) => {
      const { credentials } = await make(t);
      await credentials.setPassword('usr_1', 'one', 1);
      await credentials.setPassword('usr_2', 'other', 1);
      await credentials.remove('usr_1');
      await credentials.remove('usr_3');
      assert.equal(await credentials.findPassword('usr_1'), undefined);
      assert.equal((await credentials.findPassword('usr_2'))?.passwordHash, 'other');
    });

    test('a change that is thrown away leaves the password and its version as they were', async (t) => {
      const { credentials, together } = await make(t);
      await credentials.setPassword('usr_1', 'one', 1);
      const before = await credentials.findPassword('usr_1');
      await assert.rejects(
        together(async (stores) => {
          await stores.credentials.setPassword('usr_1', 'two', 2);
          await stores.credentials.remove('usr_1');
          throw new Error('halfway');
        }),
        /halfway/,
      );
      assert.deepEqual(await credentials.findPassword('usr_1'), before);
    });
  });
}
