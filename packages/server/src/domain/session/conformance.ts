import assert from 'node:assert/strict';
import { suite, test, type TestContext } from 'node:test';
import type { Stores, Together } from '../stores.ts';
import { endings, type NewSession, type RotateRequest, type Rotation } from './session.ts';

type Make = (t: TestContext) => Promise<Pick<Stores, 'users' | 'credentials' | 'sessions'> & { readonly together: Together }>;

const start = Date.UTC(2026, 0, 1);
const graceMs = 10_000;
const lifeMs = 100_000;

/**
 * What every implementation of `Sessions` must do, as a suite of node:test: R1 to R5 of one row, and what is asked about many.
 * @param make gives empty stores that end with the test.
 */
export function sessionsConformance(name: string, make: Make): void {
  suite(`${name}: adding`, () => {
    test('a session is found as it was added', async (t) => {
      const { sessions } = await withUser(make, t);
      const session = {
        ...newSession('ses_1'),
        authenticatedAt: start - 5,
        accessUntil: start + 7,
        address: '2001:db8::1',
        userAgent: "it's \u{1f600}",
      };
      assert.equal(await sessions.add(session, 1), 'added');
      const { tokenHash: _, ...rest } = session;
      assert.deepEqual(await sessions.find('ses_1'), {
        ...rest,
        lastUsedAt: start,
        generation: 0,
        endedAt: undefined,
        endedBecause: undefined,
      });
      assert.equal(await sessions.find('ses_2'), undefined);
    });

    test('nobody gets one by a password that has changed since, disabled, without a password, or gone', async (t) => {
      const { sessions, users, credentials } = await withUser(make, t);
      await credentials.setPassword('usr_1', 'new', start);
      assert.equal(await sessions.add(newSession('ses_1'), 1), 'outdated');
      assert.equal(await sessions.add(newSession('ses_1'), 3), 'outdated');
      await users.setDisabled('usr_1', start);
      assert.equal(await sessions.add(newSession('ses_1'), 2), 'outdated');
      await users.setDisabled('usr_1', undefined);
      assert.equal(await sessions.add({ ...newSession('ses_1'), userId: 'usr_9' }, 2), 'outdated');
      assert.equal(await sessions.find('ses_1'), undefined);
      assert.equal(await sessions.add(newSession('ses_1'), 2), 'added');
      await credentials.remove('usr_1');
      assert.equal(await sessions.add(newSession('ses_2'), 2), 'outdated');
      await credentials.setPassword('usr_1', 'new', start);
      await users.remove('usr_1');
      assert.equal(await sessions.add(newSession('ses_2'), 1), 'outdated');
      assert.equal(await sessions.find('ses_2'), undefined);
    });

    test("another's version of the password counts for nothing", async (t) => {
      const { sessions, users, credentials } = await withUser(make, t);
      await users.add({ id: 'usr_2', username: 'bob', createdAt: start, disabledAt: undefined, isDemo: false });
      for (let i = 0; i < 2; i += 1) await credentials.setPassword('usr_2', 'other', start);
      assert.equal(await sessions.add(newSession('ses_1'), 2), 'outdated');
      assert.equal(await sessions.add({ ...newSession('ses_1'), userId: 'usr_2' }, 2), 'added');
    });
  });

  suite(`${name}: rotating`, () => {
    test('R1: of fifty at once one rotates, the rest are told what it got, and the chain has one end', async (t) => {
      const { sessions, together } = await withSession(make, t);
      const all = await Promise.all(
        Array.from({ length: 50 }, (_, i) => together((stores) => stores.sessions.rotate(rotation('h0', `h1.${i}`, start + 1)))),
      );
      const won = all.findIndex(({ outcome }) => outcome === 'rotated');
      assert.deepEqual(tally(all), { rotated: 1, repeated: 49 });
      for (const one of all) if (one.outcome === 'repeated') assert.equal(one.successorSeal, `seal of h1.${won}`);
      assert.equal((await sessions.find('ses_1'))?.generation, 1);
      assert.equal((await sessions.rotate(rotation(`h1.${won}`, 'h2', start + 2))).outcome, 'rotated');
    });

    test('R1: a rotation moves what it should, and nothing else', async (t) => {
      const { sessions } = await withSession(make, t);
      const before = await sessions.find('ses_1');
      const at = start + 5;
      const rotated = await sessions.rotate(rotation('h0', 'h1', at, { accessUntil: at + 900 }));
      const after = { ...before, lastUsedAt: at, generation: 1, accessUntil: at + 900 };
      assert.deepEqual(rotated, { outcome: 'rotated', session: after });
      assert.deepEqual(await sessions.find('ses_1'), after);
    });

    test('the latest end of an access token never comes nearer', async (t) => {
      const { sessions } = await withSession(make, t);
      await sessions.rotate(rotation('h0', 'h1', start + 1, { accessUntil: start + 5_000 }));
      await sessions.rotate(rotation('h1', 'h2', start + 2, { accessUntil: start + 4_000 }));
      assert.equal((await sessions.find('ses_1'))?.accessUntil, start + 5_000);
      const repeated = await sessions.rotate(rotation('h1', 'h9', start + 3, { accessUntil: start + 6_000 }));
      assert.equal(repeated.outcome, 'repeated');
      assert.equal((await sessions.end('ses_1', 'logout', start + 4))?.accessUntil, start + 6_000);
    });

    test('R2: again within the grace gives the same, as often as it is asked; at its end it is a replay', async (t) => {
      for (const [late, expected] of [
        [0, 'repeated'],
        [graceMs - 1, 'repeated'],
        [graceMs, 'replayed'],
        [graceMs + 1, 'replayed'],
      ] as const) {
        const { sessions } = await withSession(make, t);
        await sessions.rotate(rotation('h0', 'h1', start + 1));
        if (expected === 'repeated') await sessions.rotate(rotation('h0', 'h7', start + 1));
        const again = await sessions.rotate(rotation('h0', 'h8', start + 1 + late));
        assert.equal(again.outcome, expected, `${late} ms later`);
        if (again.outcome === 'repeated') assert.equal(again.successorSeal, 'seal of h1');
        assert.equal((await sessions.find('ses_1'))?.generation, 1);
        assert.equal(
          (await sessions.rotate(rotation('h1', 'h2', start + 1 + late))).outcome,
          expected === 'repeated' ? 'rotated' : 'ended',
        );
      }
    });

    test('R2: once the successor is used, or its seal is cleared, again is a replay', async (t) => {
      const used = await withSession(make, t);
      await used.sessions.rotate(rotation('h0', 'h1', start));
      await used.sessions.rotate(rotation('h1', 'h2', start));
      assert.equal((await used.sessions.rotate(rotation('h0', 'h9', start))).outcome, 'replayed');

      const cleared = await withSession(make, t);
      await cleared.sessions.rotate(rotation('h0', 'h1', start));
      assert.equal(await cleared.sessions.clearSeals(start - 1), 0);
      assert.equal(await cleared.sessions.clearSeals(start), 1);
      assert.equal(await cleared.sessions.clearSeals(start), 0);
      assert.equal((await cleared.sessions.rotate(rotation('h0', 'h9', start))).outcome, 'replayed');
    });

    test('R2: without a grace nothing is sealed and nothing repeated, not even where clocks were read in another order', async (t) => {
      const { sessions } = await withSession(make, t);
      assert.equal((await sessions.rotate(rotation('h0', 'h1', start + 2, { graceMs: 0 }))).outcome, 'rotated');
      assert.equal(await sessions.clearSeals(start + 2), 0);
      assert.equal((await sessions.rotate(rotation('h0', 'h9', start + 1, { graceMs: 0 }))).outcome, 'replayed');
    });

    test('R3: any other token of the chain ends the session, once, for whoever holds the last one too', async (t) => {
      const { sessions } = await withSession(make, t);
      for (let i = 0; i < 5; i += 1) await sessions.rotate(rotation(`h${i}`, `h${i + 1}`, start + i));
      const all = await Promise.all(
        Array.from({ length: 5 }, () => sessions.rotate(rotation('h2', 'h9', start + 5, { accessUntil: start + 99_999 }))),
      );
      assert.deepEqual(tally(all), { replayed: 1, ended: 4 });
      assert.deepEqual(
        all.find(({ outcome }) => outcome === 'replayed'),
        { outcome: 'replayed', ended: { id: 'ses_1', userId: 'usr_1', accessUntil: start + 900 } },
      );
      assert.equal((await sessions.rotate(rotation('h5', 'h6', start + 5))).outcome, 'ended');
      const { endedAt, endedBecause, generation } = (await sessions.find('ses_1')) ?? {};
      assert.deepEqual({ endedAt, endedBecause, generation }, { endedAt: start + 5, endedBecause: 'replay', generation: 5 });
    });

    test('R4: an ended session, an unknown one, and one of a user disabled or gone: ended, and nothing changes', async (t) => {
      const { sessions, users } = await withSession(make, t);
      await users.setDisabled('usr_1', start);
      const before = await sessions.find('ses_1');
      for (const hash of ['h0', 'never ours']) assert.deepEqual(await sessions.rotate(rotation(hash, 'h1', start)), { outcome: 'ended' });
      assert.deepEqual(await sessions.find('ses_1'), before);
      await users.setDisabled('usr_1', undefined);
      assert.equal((await sessions.rotate(rotation('h0', 'h1', start))).outcome, 'rotated');
      await users.setDisabled('usr_1', start);
      assert.deepEqual(await sessions.rotate(rotation('h0', 'h9', start)), { outcome: 'ended' }, 'nor is anything repeated');
      await users.remove('usr_1');
      assert.deepEqual(await sessions.rotate(rotation('h1', 'h2', start)), { outcome: 'ended' });

      await sessions.end('ses_1', 'logout', start + 1);
      const ended = await sessions.find('ses_1');
      for (const hash of ['h0', 'h1', 'never ours'])
        assert.deepEqual(await sessions.rotate(rotation(hash, 'h2', start + 2)), { outcome: 'ended' });
      assert.deepEqual(await sessions.find('ses_1'), ended);
      assert.deepEqual(await sessions.rotate({ ...rotation('h0', 'h1', start), id: 'ses_unknown' }), { outcome: 'ended' });
    });

    test('R5: the absolute end is exact, and no rotation moves it', async (t) => {
      const { sessions } = await withSession(make, t);
      assert.equal((await sessions.rotate(rotation('h0', 'h1', start + lifeMs - 1))).outcome, 'rotated');
      for (const hash of ['h1', 'h0', 'never ours'])
        assert.deepEqual(await sessions.rotate(rotation(hash, 'h2', start + lifeMs)), { outcome: 'expired' });
      const { expiresAt, endedAt } = (await sessions.find('ses_1')) ?? {};
      assert.deepEqual({ expiresAt, endedAt }, { expiresAt: start + lifeMs, endedAt: undefined });
    });

    test('R5: the idle end is exact, and each rotation moves it', async (t) => {
      const { sessions } = await withSession(make, t);
      const idle = (from: string, to: string, at: number) => sessions.rotate(rotation(from, to, at, { idleMs: 20_000 }));
      assert.equal((await idle('h0', 'h1', start + 19_999)).outcome, 'rotated');
      assert.equal((await idle('h1', 'h2', start + 39_998)).outcome, 'rotated');
      for (const hash of ['h2', 'h1', 'h0']) assert.deepEqual(await idle(hash, 'h3', start + 59_998), { outcome: 'expired' });
      assert.equal((await sessions.rotate(rotation('h2', 'h3', start + 59_998))).outcome, 'rotated', 'without an idle end');
    });

    test("one session's tokens are nothing to another", async (t) => {
      const { sessions } = await withSession(make, t);
      await sessions.add({ ...newSession('ses_2'), tokenHash: 'other' }, 1);
      assert.equal((await sessions.rotate({ ...rotation('h0', 'h1', start), id: 'ses_2' })).outcome, 'replayed');
      assert.equal((await sessions.rotate(rotation('h0', 'h1', start))).outcome, 'rotated');
    });

    test('a rotation that is thrown away has not happened', async (t) => {
      const { sessions, together } = await withSession(make, t);
      const before = await sessions.find('ses_1');
      await assert.rejects(
        together(async (stores) => {
          await stores.sessions.rotate(rotation('h0', 'h1', start + 1));
          throw new Error('halfway');
        }),
        /halfway/,
      );
      assert.deepEqual(await sessions.find('ses_1'), before);
      await sessions.rotate(rotation('h0', 'h1', start));
      await sessions.rotate(rotation('h1', 'h2', start));
      await assert.rejects(
        together(async (stores) => {
          assert.equal((await stores.sessions.rotate(rotation('h0', 'h9', start))).outcome, 'replayed');
          throw new Error('halfway');
        }),
        /halfway/,
      );
      assert.equal((await sessions.rotate(rotation('h2', 'h3', start))).outcome, 'rotated');
    });
  });

  suite(`${name}: ending`, () => {
    test('a session ends once, for the reason that came first, and never after its absolute end', async (t) => {
      const { sessions, together } = await withSession(make, t);
      await sessions.add(newSession('ses_2'), 1);
      const all = await Promise.all(endings.map((because) => together((stores) => stores.sessions.end('ses_1', because, start + 3))));
      assert.deepEqual(
        all.filter((ended) => ended),
        [{ id: 'ses_1', userId: 'usr_1', accessUntil: start + 900 }],
      );
      assert.equal(await sessions.end('ses_1', 'admin', start + 4), undefined);
      assert.equal((await sessions.find('ses_1'))?.endedAt, start + 3);
      assert.equal((await sessions.find('ses_2'))?.endedAt, undefined);
      assert.equal(await sessions.end('ses_2', 'admin', start + lifeMs), undefined);
      assert.equal(await sessions.end('ses_unknown', 'admin', start), undefined);
    });

    test('every reason comes back as what it was', async (t) => {
      const { sessions } = await withUser(make, t);
      for (const because of endings) {
        await sessions.add(newSession(`ses_${because}`), 1);
        await sessions.end(`ses_${because}`, because, start);
        assert.equal((await sessions.find(`ses_${because}`))?.endedBecause, because);
      }
    });

    test("all of a user's living sessions end, and nobody else's", async (t) => {
      const { sessions } = await withTwoUsers(make, t);
      for (const id of ['ses_1', 'ses_2', 'ses_3']) await sessions.add(newSession(id), 1);
      await sessions.add({ ...newSession('ses_other'), userId: 'usr_2' }, 1);
      await sessions.add({ ...newSession('ses_short'), expiresAt: start + 5 }, 1);
      await sessions.end('ses_2', 'logout', start + 1);
      const ended = await sessions.endAllOf('usr_1', 'password_changed', start + 5);
      assert.deepEqual(
        ended.toSorted((a, b) => (a.id < b.id ? -1 : 1)),
        ['ses_1', 'ses_3'].map((id) => ({ id, userId: 'usr_1', accessUntil: start + 900 })),
      );
      assert.deepEqual(await sessions.endAllOf('usr_1', 'admin', start + 5), []);
      assert.deepEqual(
        await Promise.all(['ses_1', 'ses_2', 'ses_3', 'ses_other'].map(async (id) => (await sessions.find(id))?.endedBecause)),
        ['password_changed', 'logout', 'password_changed', undefined],
      );
    });

    test('beside a new one only the latest stay, whichever way ids and times lie', async (t) => {
      const { sessions } = await withTwoUsers(make, t);
      for (const [i, id] of ['ses_d', 'ses_a', 'ses_c', 'ses_b'].entries())
        await sessions.add({ ...newSession(id), createdAt: start + i }, 1);
      await sessions.add({ ...newSession('ses_other'), userId: 'usr_2', createdAt: start - 1 }, 1);
      await sessions.add({ ...newSession('ses_ended'), createdAt: start + 9 }, 1);
      await sessions.end('ses_ended', 'logout', start + 9);
      await sessions.add({ ...newSession('ses_new'), createdAt: start - 9 }, 1);
      const mine = { id: 'ses_new', userId: 'usr_1' };

      assert.deepEqual(await sessions.endOldest(mine, 5, start + 9), []);
      assert.deepEqual(
        (await sessions.endOldest(mine, 4, start + 9)).map(({ id }) => id),
        ['ses_d'],
      );
      assert.equal((await sessions.find('ses_d'))?.endedBecause, 'too_many');
      assert.deepEqual(await sessions.endOldest(mine, 4, start + 9), []);
      assert.deepEqual((await sessions.endOldest(mine, 1, start + 9)).map(({ id }) => id).toSorted(), ['ses_a', 'ses_b', 'ses_c']);
      assert.equal((await sessions.find('ses_new'))?.endedAt, undefined);
      assert.equal((await sessions.find('ses_other'))?.endedAt, undefined);
    });

    test('of those opened in the same millisecond, the new one stays', async (t) => {
      const { sessions } = await withUser(make, t);
      for (const id of ['ses_b', 'ses_a']) await sessions.add(newSession(id), 1);
      assert.deepEqual(
        (await sessions.endOldest({ id: 'ses_a', userId: 'usr_1' }, 1, start)).map(({ id }) => id),
        ['ses_b'],
      );
    });

    test('an end that is thrown away has not come', async (t) => {
      const { sessions, together } = await withSession(make, t);
      await assert.rejects(
        together(async (stores) => {
          await stores.sessions.endAllOf('usr_1', 'admin', start);
          throw new Error('halfway');
        }),
        /halfway/,
      );
      assert.equal((await sessions.rotate(rotation('h0', 'h1', start))).outcome, 'rotated');
      assert.deepEqual(await sessions.listRevoked(start), []);
    });
  });

  suite(`${name}: listing and deleting`, () => {
    test('the living ones, newest first, of one user or of all, so many', async (t) => {
      const { sessions } = await withTwoUsers(make, t);
      for (const [id, createdAt, userId] of [
        ['ses_1', 3, 'usr_1'],
        ['ses_2', 1, 'usr_1'],
        ['ses_3', 3, 'usr_2'],
        ['ses_4', 2, 'usr_1'],
      ] as const) {
        await sessions.add({ ...newSession(id), userId, createdAt: start + createdAt }, 1);
      }
      await sessions.end('ses_4', 'logout', start + 5);
      await sessions.add({ ...newSession('ses_short'), expiresAt: start + 9 }, 1);
      const ids = async (page: Parameters<typeof sessions.listLive>[0]) => (await sessions.listLive(page)).map(({ id }) => id);
      assert.deepEqual(await ids({ at: start + 8, limit: 10 }), ['ses_3', 'ses_1', 'ses_2', 'ses_short']);
      assert.deepEqual(await ids({ at: start + 9, limit: 10 }), ['ses_3', 'ses_1', 'ses_2']);
      assert.deepEqual(await ids({ at: start + 9, limit: 10, userId: 'usr_1' }), ['ses_1', 'ses_2']);
      assert.deepEqual(await ids({ at: start + 9, limit: 2 }), ['ses_3', 'ses_1']);
      assert.deepEqual(await ids({ at: start + 9, limit: 10, userId: 'usr_3' }), []);
      assert.deepEqual([await sessions.countLive(start + 8), await sessions.countLive(start + 9)], [4, 3]);
    });

    test('revoked is what has ended while an access token may live, until exactly its end', async (t) => {
      const { sessions } = await withUser(make, t);
      for (const [id, accessUntil] of [
        ['ses_1', 10],
        ['ses_2', 20],
        ['ses_live', 30],
      ] as const)
        await sessions.add({ ...newSession(id), accessUntil: start + accessUntil }, 1);
      for (const id of ['ses_1', 'ses_2']) await sessions.end(id, 'admin', start + 1);
      const at = async (ms: number) => (await sessions.listRevoked(start + ms)).toSorted((a, b) => a.accessUntil - b.accessUntil);
      assert.deepEqual(await at(9), [
        { id: 'ses_1', userId: 'usr_1', accessUntil: start + 10 },
        { id: 'ses_2', userId: 'usr_1', accessUntil: start + 20 },
      ]);
      assert.deepEqual(
        (await at(10)).map(({ id }) => id),
        ['ses_2'],
      );
      assert.deepEqual(await at(20), []);
    });

    test('the dead are deleted in batches, once their time has come; the living never', async (t) => {
      const { sessions } = await withUser(make, t);
      for (let i = 0; i < 4; i += 1) await sessions.add(newSession(`ses_ended_${i}`), 1);
      for (let i = 0; i < 4; i += 1) await sessions.end(`ses_ended_${i}`, 'admin', start + i);
      await sessions.add({ ...newSession('ses_expired'), expiresAt: start + 1 }, 1);
      await sessions.add(newSession('ses_live'), 1);
      assert.equal(await sessions.deleteDead(start - 1, 10), 0);
      assert.equal(await sessions.deleteDead(start + 2, 3), 3);
      assert.equal(await sessions.deleteDead(start + 2, 3), 1);
      assert.equal(await sessions.deleteDead(start + 2, 3), 0);
      assert.equal(await sessions.find('ses_expired'), undefined);
      assert.ok(await sessions.find('ses_ended_3'));
      assert.ok(await sessions.find('ses_live'));
      assert.equal((await sessions.rotate({ ...rotation('h0', 'h1', start), id: 'ses_ended_0' })).outcome, 'ended');
    });
  });
}

/** A user whose password is at version 1. */
async function withUser(make: Make, t: TestContext) {
  const stores = await make(t);
  await stores.users.add({ id: 'usr_1', username: 'anna', createdAt: start, disabledAt: undefined, isDemo: false });
  await stores.credentials.setPassword('usr_1', 'hash', start);
  return stores;
}

async function withTwoUsers(make: Make, t: TestContext) {
  const stores = await withUser(make, t);
  await stores.users.add({ id: 'usr_2', username: 'bob', createdAt: start, disabledAt: undefined, isDemo: false });
  await stores.credentials.setPassword('usr_2', 'hash', start);
  return stores;
}

/** And a session of that user, `ses_1`, whose token has the hash `h0`. */
async function withSession(make: Make, t: TestContext) {
  const stores = await withUser(make, t);
  await stores.sessions.add(newSession('ses_1'), 1);
  return stores;
}

const newSession = (id: string): NewSession => ({
  id,
  userId: 'usr_1',
  createdAt: start,
  authenticatedAt: start,
  expiresAt: start + lifeMs,
  accessUntil: start + 900,
  address: '192.0.2.1',
  userAgent: 'test',
  tokenHash: 'h0',
});

const rotation = (presentedHash: string, nextHash: string, at: number, more: Partial<RotateRequest> = {}): RotateRequest => ({
  id: 'ses_1',
  presentedHash,
  nextHash,
  successorSeal: `seal of ${nextHash}`,
  at,
  graceMs,
  idleMs: undefined,
  accessUntil: start + 900,
  ...more,
});

const tally = (rotations: readonly Rotation[]): Record<string, number> =>
  Object.fromEntries(Object.entries(Object.groupBy(rotations, ({ outcome }) => outcome)).map(([outcome, all]) => [outcome, all.length]));
