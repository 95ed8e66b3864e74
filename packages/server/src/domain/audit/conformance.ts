import assert from 'node:assert/strict';
import { suite, test, type TestContext } from 'node:test';
import type { Stores, Together } from '../stores.ts';
import { type AuditAction, auditActions, type AuditEntry } from './audit.ts';

/**
 * What every implementation of `Audit` must do, as a suite of node:test.
 * @param make gives empty stores that end with the test.
 */
export function auditConformance(
  name: string,
  make: (t: TestContext) => Promise<Pick<Stores, 'audit'> & { readonly together: Together }>,
): void {
  suite(name, () => {
    test('entries come back as they were added, the newest first', async (t) => {
      const { audit } = await make(t);
      const bare: AuditEntry = {
        id: 'aud_b',
        at: 1_767_225_600_000,
        action: 'login',
        by: 'server',
        count: 1,
        userId: undefined,
        username: undefined,
        sessionId: undefined,
        address: undefined,
        requestId: undefined,
        reason: undefined,
      };
      const full: AuditEntry = {
        id: 'aud_a',
        at: 1_767_225_600_001,
        action: 'logout',
        by: 'user',
        count: 3,
        userId: 'usr_1',
        username: "o'n\u{1f600}",
        sessionId: 'ses_1',
        address: '::1',
        requestId: 'r',
        reason: 'why',
      };
      const twin: AuditEntry = { ...full, id: 'aud_c', by: 'operator' };
      for (const entry of [full, bare, twin]) await audit.add(entry);
      assert.deepEqual(await audit.list({ limit: 10 }), [twin, full, bare]);
      await assert.rejects(audit.add({ ...bare, reason: 'again' }));
      assert.deepEqual(await audit.list({ limit: 10 }), [twin, full, bare]);
    });

    test('every action comes back as what it was', async (t) => {
      const { audit } = await make(t);
      for (const [i, action] of auditActions.entries()) await audit.add(entryAt(i, { action }));
      assert.deepEqual(
        (await audit.list({ limit: 100 })).map(({ action }) => action),
        auditActions.toReversed(),
      );
    });

    test('filters hold together, and so many come', async (t) => {
      const { audit } = await make(t);
      const entries = Array.from({ length: 12 }, (_, i) =>
        entryAt(Math.floor(i / 3), { id: `aud_${(i * 7) % 12}`, action: i % 2 ? 'login' : 'logout', username: i % 3 ? 'anna' : 'bob' }),
      );
      for (const entry of entries) await audit.add(entry);
      const expected = entries.toSorted((a, b) => b.at - a.at || (a.id < b.id ? 1 : -1));
      const ids = async (page: Parameters<typeof audit.list>[0]) => (await audit.list(page)).map(({ id }) => id);
      const those = (fits: (entry: AuditEntry) => boolean) => expected.filter(fits).map(({ id }) => id);
      assert.deepEqual(await ids({ limit: 5 }), those(() => true).slice(0, 5));
      assert.deepEqual(
        await ids({ limit: 100, action: 'login' }),
        those(({ action }) => action === 'login'),
      );
      assert.deepEqual(await ids({ limit: 3, username: 'anna' }), those(({ username }) => username === 'anna').slice(0, 3));
      assert.deepEqual(
        await ids({ limit: 100, username: 'anna', action: 'logout' }),
        those(({ username, action }) => username === 'anna' && action === 'logout'),
      );
      assert.deepEqual(await ids({ limit: 100, username: 'Anna' }), []);
    });

    test('a user is found by name or id, a request by its id', async (t) => {
      const { audit } = await make(t);
      const entries = [
        entryAt(1, { username: 'anna', requestId: 'r1' }),
        entryAt(2, { userId: 'usr_anna', action: 'refresh_replayed', requestId: 'r1' }),
        entryAt(3, { username: 'ANNA', userId: 'usr_anna', requestId: 'r2' }),
        entryAt(4, { username: 'bob', userId: 'usr_bob' }),
        entryAt(5),
      ];
      for (const entry of entries) await audit.add(entry);
      const times = async (page: Omit<Parameters<typeof audit.list>[0], 'limit'>) =>
        (await audit.list({ limit: 10, ...page })).map(({ at }) => at);
      assert.deepEqual(await times({ userId: 'usr_anna' }), [3, 2]);
      assert.deepEqual(await times({ username: 'anna', userId: 'usr_anna' }), [3, 2, 1]);
      assert.deepEqual(await times({ username: 'anna', userId: 'usr_anna', action: 'refresh_replayed' }), [2]);
      assert.deepEqual(await times({ requestId: 'r1' }), [2, 1]);
      assert.deepEqual(await times({ requestId: 'r1', userId: 'usr_bob' }), []);
    });

    test('an action that only another version knows is shown as it is', async (t) => {
      const { audit } = await make(t);
      await audit.add(entryAt(1, { action: 'of_another_version' as AuditAction })); // which this one's types do not know
      assert.deepEqual(
        (await audit.list({ limit: 10 })).map(({ action }) => action),
        ['of_another_version'],
      );
    });

    test('a tally is one row that counts, and keeps the latest time', async (t) => {
      const { audit, together } = await make(t);
      await audit.tally(entryAt(10, { id: 'aud_sum_1', reason: 'first' }));
      await audit.tally(entryAt(20, { id: 'aud_sum_2' }));
      await Promise.all(
        Array.from({ length: 10 }, (_, i) => together((stores) => stores.audit.tally(entryAt(11 + i, { id: 'aud_sum_1', count: 2 })))),
      );
      const rows = await audit.list({ limit: 10 });
      assert.deepEqual(
        rows.map(({ id, at, count }) => ({ id, at, count })),
        [
          { id: 'aud_sum_2', at: 20, count: 1 },
          { id: 'aud_sum_1', at: 20, count: 21 },
        ],
      );
      assert.equal(rows[1]?.reason, 'first');
    });

    test('what is older goes, in batches; what is as old stays', async (t) => {
      const { audit } = await make(t);
      for (let at = 0; at < 10; at += 1) await audit.add(entryAt(at));
      assert.equal(await audit.deleteBefore(7, 5), 5);
      assert.equal(await audit.deleteBefore(7, 5), 2);
      assert.equal(await audit.deleteBefore(7, 5), 0);
      assert.deepEqual(
        (await audit.list({ limit: 100 })).map(({ at }) => at),
        [9, 8, 7],
      );
    });

    test('an act that is thrown away is on no record', async (t) => {
      const { audit, together } = await make(t);
      await audit.tally(entryAt(1, { id: 'aud_sum' }));
      await assert.rejects(
        together(async (stores) => {
          await stores.audit.add(entryAt(2));
          await stores.audit.tally(entryAt(3, { id: 'aud_sum' }));
          throw new Error('halfway');
        }),
        /halfway/,
      );
      assert.deepEqual(
        (await audit.list({ limit: 10 })).map(({ id, count }) => [id, count]),
        [['aud_sum', 1]],
      );
    });
  });
}

const entryAt = (at: number, more: Partial<AuditEntry> = {}): AuditEntry => ({
  id: `aud_${at}`,
  at,
  action: 'login_failed',
  by: 'user',
  count: 1,
  ...more,
});
