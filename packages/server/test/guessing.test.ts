import assert from 'node:assert/strict';
import { suite, test, type TestContext } from 'node:test';
import { clientAddress, Problem } from '@portcullis/guard';
import { addUser, getUser } from '../src/flows/add-user.ts';
import { keepHouse } from '../src/flows/keep-house.ts';
import { login, type LoginRequest } from '../src/flows/login.ts';
import type { Services, Tokens } from '../src/flows/services.ts';
import { unlockUser } from '../src/flows/unlock-user.ts';
import { sqliteStore } from '../src/storage/sql/sql-store.ts';
import { openTestHouse } from '../../../test/support/house.ts';

const MINUTE_MS = 60_000;
const HOUR_MS = 60 * MINUTE_MS;
const DAY_MS = 24 * HOUR_MS;
const password = 'a sentence is easy to remember';

suite('an attack of more than a day', () => {
  // Hashes are real, 14 ms each, and few: what is refused has none. The owner comes every ten minutes as he would, and
  // asks for some 200 in the 26 hours; the botnet gets a hundred, whatever it does.
  test(
    'a botnet gets a hundred guesses a day; the owner gets in at every try; on a new device within a day',
    { timeout: 60_000 },
    async (t) => {
      const { services, clock, hashes } = await makeHouse(t);
      const spellings = ['Anna', 'ANNA', ' anna', 'ａｎｎａ', 'anna\t', '𝐚𝐧𝐧𝐚'];
      const letIn: number[] = [];
      let refused = 0;
      let sent = 0;
      const guess = async () => {
        sent += 1;
        const username = spellings[sent % spellings.length] ?? '';
        const before = hashes.done().hashes;
        const answer = await attempt(services, { username, password: `guess ${sent}` }, `198.51.${(sent >> 8) & 255}.${sent & 255}`);
        if (answer === 'credentials_invalid') letIn.push(clock.now());
        else assert.equal(answer, 'too_many_attempts');
        if (answer === 'too_many_attempts') refused += 1;
        return hashes.done().hashes - before;
      };
      const owner = { tries: 0, in: 0, mistyped: 0 };
      let { deviceToken } = await login(services, { username: 'anna', password }, from('192.0.2.1'));
      const logIn = async () => {
        owner.tries += 1;
        if (owner.tries % 20 === 0) {
          owner.mistyped += 1;
          assert.equal(
            await attempt(services, { username: 'anna', password: 'mistyped', deviceToken }, '192.0.2.1'),
            'credentials_invalid',
          );
        }
        const answer = await attempt(services, { username: 'anna', password, deviceToken }, '192.0.2.1');
        if (typeof answer === 'string') return;
        owner.in += 1;
        ({ deviceToken } = answer);
      };

      for (const end = clock.now() + 26 * HOUR_MS, steps = { count: 0 }; clock.now() < end; steps.count += 1, clock.advance(20_000)) {
        if (steps.count % 180 === 90) await Promise.all(Array.from({ length: 50 }, guess));
        else assert.ok((await guess()) <= 1);
        if (steps.count % 30 === 0) await logIn();
      }

      assert.ok(letIn.length > 100, 'it went on for more than a day');
      const busiest = Math.max(...letIn.map((at) => letIn.filter((other) => other >= at && other < at + DAY_MS).length));
      assert.ok(busiest <= 100 && busiest > 90, `${busiest} guesses on a day`);
      assert.equal(letIn.length + refused, sent);
      assert.deepEqual([owner.tries, owner.in, owner.mistyped], [156, 156, 7], 'the owner is in whenever the password is right');
      assert.equal(hashes.done().hashes, 2 + letIn.length + owner.in + owner.mistyped, 'nothing else was hashed');

      const stopped = clock.now();
      let answer: unknown = 'too_many_attempts';
      for (; answer === 'too_many_attempts' && clock.now() < stopped + 2 * DAY_MS; clock.advance(MINUTE_MS))
        answer = await attempt(services, { username: 'anna', password }, '203.0.113.7');
      assert.ok(typeof answer === 'object', String(answer));
      assert.ok(clock.now() - stopped <= DAY_MS, `${(clock.now() - stopped) / HOUR_MS} h`);

      await keepHouse(services, DAY_MS);
      clock.advance(DAY_MS);
      await keepHouse(services, DAY_MS);
      assert.equal(await services.guesses.deleteDead(Number.MAX_SAFE_INTEGER, 100), 0, 'a day later nothing of it is kept');
    },
  );
});

suite('what a login costs, and to whom', () => {
  for (const username of ['Anna', 'nobody', 'disabled']) {
    test(`of fifty at once for ${username}, five are hashed; the others are told to come back in a minute`, async (t) => {
      const { services, hashes, clock } = await makeHouse(t);
      const { id } = await addUser(services, 'disabled', password);
      await services.users.setDisabled(id, 1);
      const before = hashes.done().hashes;
      const all = await Promise.all(Array.from({ length: 50 }, () => refusal(services, { username, password: 'wrong' })));
      assert.equal(all.filter(({ code }) => code === 'credentials_invalid').length, 5);
      for (const { code, extra } of all)
        if (code !== 'credentials_invalid')
          assert.deepEqual([code, extra], ['too_many_attempts', { retryAfterS: 60, logged: { username } }]);
      assert.equal(hashes.done().hashes - before, 5);
      assert.equal((await services.audit.list({ limit: 100, action: 'login_failed' })).length, 5, 'what is not hashed is in no audit');
      clock.advance(59_999);
      assert.equal((await refusal(services, { username, password: 'wrong' })).extra.retryAfterS, 1);
      clock.advance(1);
      assert.equal((await refusal(services, { username, password: 'wrong' })).code, 'credentials_invalid');
    });
  }

  test('the right password does not help a stranger who is refused, and is no news to him', async (t) => {
    const { services } = await makeHouse(t);
    for (let i = 0; i < 5; i += 1) await refusal(services, { username: 'anna', password: 'wrong' });
    const [right, wrong] = [
      await refusal(services, { username: 'anna', password }),
      await refusal(services, { username: 'anna', password: 'x' }),
    ];
    assert.deepEqual([right.code, right.reason, right.extra], [wrong.code, wrong.reason, wrong.extra]);
    assert.deepEqual(await services.sessions.listLive({ at: 0, limit: 10 }), []);
  });

  test('a good login gives back its own attempt, and no other; fifty of them leave nothing', async (t) => {
    const { services } = await makeHouse(t);
    const quick = { ...services, passwords: { ...services.passwords, verify: async (given: string) => given === password } };
    for (let i = 0; i < 4; i += 1) await refusal(quick, { username: 'anna', password: 'wrong' });
    for (let i = 0; i < 50; i += 1) await login(quick, { username: 'anna', password }, from('192.0.2.1'));
    assert.equal((await refusal(quick, { username: 'anna', password: 'wrong' })).code, 'credentials_invalid');
    assert.equal((await refusal(quick, { username: 'anna', password })).code, 'too_many_attempts', 'nothing but time resets the count');
    await addUser(services, 'ben', password);
    await login(quick, { username: 'ben', password }, from('192.0.2.1'));
    assert.equal(await services.guesses.deleteDead(Number.MAX_SAFE_INTEGER, 100), 1, 'only what failed is kept');
  });

  test('when the hash begins, the attempt is in the store, for every process to see', async (t) => {
    const { services, file } = await makeHouse(t);
    const other = sqliteStore(file);
    t.after(() => other.close());
    const seen: number[] = [];
    const verify = async () => {
      seen.push(await other.guesses.clear(services.guessPlaces.ofStrangers('anna'), services.clock.now()));
      return false;
    };
    await refusal({ ...services, passwords: { ...services.passwords, verify } }, { username: 'anna', password });
    assert.deepEqual(seen, [1]);
  });

  test('an attempt that was never hashed is given back: too many waiting, or nobody there any more', async (t) => {
    const { services } = await makeHouse(t);
    const failing = (code: string) => async () => {
      throw new Problem<string>(code);
    };
    for (const [code, on] of [
      ['server_busy', { passwords: { ...services.passwords, verify: failing('server_busy') } }],
      ['request_malformed', { passwords: { ...services.passwords, verify: failing('request_malformed') } }],
      ['unavailable', { credentials: { ...services.credentials, findPassword: failing('unavailable') } }],
    ] as const)
      for (let i = 0; i < 7; i += 1) assert.equal((await refusal({ ...services, ...on }, { username: 'anna', password })).code, code);
    assert.equal(await services.guesses.deleteDead(Number.MAX_SAFE_INTEGER, 100), 0);
    await login(services, { username: 'anna', password }, from('192.0.2.1'));
  });

  test('a right password is no guess when our own side fails after it', async (t) => {
    const { services } = await makeHouse(t);
    const failing = { ...services, accessTokens: { ...services.accessTokens, mint: () => Promise.reject(new Error('no key')) } };
    for (let i = 0; i < 8; i += 1)
      await assert.rejects(login(failing, { username: 'anna', password }, from('192.0.2.1')), { message: 'no key' });
    await login(services, { username: 'anna', password }, from('192.0.2.1'));
  });

  test('when no more may wait, it is said before anything is read or written', async (t) => {
    const { services, hashes } = await makeHouse(t);
    for (let i = 0; i < 80; i += 1) hashes.verify('x', undefined).catch(() => {}); // most are refused when the house is closed
    const on: Services = { ...services, together: () => assert.fail('asked the store') };
    const { code, extra } = await refusal(on, { username: 'anna', password });
    assert.deepEqual([code, extra.retryAfterS], ['server_busy', 1]);
  });
});

suite('a known device', () => {
  test('has ten an hour of its own: apart from strangers, other devices and other names', async (t) => {
    const { services, clock } = await makeHouse(t);
    await addUser(services, 'ben', password);
    const anna = async () => (await login(services, { username: 'anna', password }, from('192.0.2.1'))).deviceToken;
    const [one, other] = [await anna(), await anna()];
    const fail = async (times: number, deviceToken?: string, username = 'anna') => {
      const codes: string[] = [];
      for (let i = 0; i < times; i += 1) codes.push((await refusal(services, { username, password: 'wrong', deviceToken })).code);
      return codes.filter((code) => code === 'credentials_invalid').length;
    };
    assert.equal(await fail(7), 5);
    assert.equal(await fail(12, one), 10);
    assert.equal((await refusal(services, { username: 'anna', password, deviceToken: one })).extra.retryAfterS, 3_600);
    await login(services, { username: ' ANNA', password, deviceToken: other }, from('192.0.2.1'));
    assert.equal(await fail(12, other), 10);
    clock.advance(MINUTE_MS);
    assert.equal(await fail(2), 1, 'the strangers have what they had');
    assert.equal(await fail(12, one, 'ben'), 5, "for another name it is a stranger's");
    assert.equal(await fail(2, one), 0);
    clock.advance(HOUR_MS - MINUTE_MS);
    const renewed = await login(services, { username: 'anna', password, deviceToken: one }, from('192.0.2.1'));
    assert.notEqual(renewed.deviceToken, one);
    assert.equal(await fail(6, one), 6);
    assert.equal(await fail(6, renewed.deviceToken), 4, 'renewed, it is the same device');
  });

  test('a token that is none, is too old or is of another secret: a stranger, as if there were none', async (t) => {
    const { services, clock } = await makeHouse(t);
    const { deviceToken } = await login(services, { username: 'anna', password }, from('192.0.2.1'));
    clock.advance(180 * DAY_MS);
    for (const wrong of [deviceToken, 'pdt_', 'x', `${deviceToken}x`, ''])
      assert.equal((await refusal(services, { username: 'anna', password: 'wrong', deviceToken: wrong })).code, 'credentials_invalid');
    const last = await refusal(services, { username: 'anna', password, deviceToken });
    assert.deepEqual([last.code, last.reason], ['too_many_attempts', 'unknown device']);
  });
});

suite('an operator', () => {
  test('unlocks a user, by name or id: the next is let in; it is on record', async (t) => {
    const { services } = await makeHouse(t);
    const { id } = await getUser(services, 'anna');
    for (const nameOrId of ['ANNA', id]) {
      for (let i = 0; i < 5; i += 1) await refusal(services, { username: 'anna', password: 'wrong' });
      assert.equal((await refusal(services, { username: 'anna', password })).code, 'too_many_attempts');
      assert.equal((await unlockUser(services, nameOrId)).cleared, 5);
      await login(services, { username: 'anna', password }, from('192.0.2.1'));
    }
    await assert.rejects(unlockUser(services, 'nobody'), { code: 'user_unknown' });
    const rows = await services.audit.list({ limit: 10, action: 'guesses_cleared' });
    assert.deepEqual(
      rows.map(({ by, username, userId, reason }) => [by, username, userId, reason]),
      Array.from({ length: 2 }, () => ['operator', 'Anna', id, '5 guesses']),
    );
  });
});

suite('password spraying', () => {
  test('ten names from one block: told at once, on record once an hour; from then on one row an hour, whatever the names', async (t) => {
    const { services, clock, lines } = await makeHouse(t);
    const fast = { ...services, passwords: { ...services.passwords, verify: async () => false } };
    clock.advance(HOUR_MS - (clock.now() % HOUR_MS));
    const spray = async (times: number, address: (i: number) => string, tag: string) => {
      for (let i = 0; i < times; i += 1) {
        const answer = await attempt(fast, { username: i % 7 ? `${tag} ${i}` : `${tag} anna ${i}`, password: 'Winter2026' }, address(i));
        assert.equal(answer, 'credentials_invalid');
        clock.advance(10_000);
      }
    };
    await spray(3 * 360, (i) => `2001:db8::${(i % 200).toString(16)}`, 'a');
    await spray(9, () => '192.0.2.1', 'b');
    const rows = async (action: 'login_failed' | 'password_spraying') =>
      (await services.audit.list({ limit: 10_000, action })).filter(({ address }) => address !== '192.0.2.1');
    assert.deepEqual(
      (await rows('login_failed')).map(({ count, address, username }) => [count, address, username === undefined]).slice(0, 3),
      [360, 360, 351].map((count) => [count, '2001:db8::/64', true]),
    );
    assert.equal((await rows('login_failed')).length, 3 + 9, 'nine names of their own, then the sums');
    assert.deepEqual(
      (await rows('password_spraying')).map(({ by, address, reason }) => [by, address, reason]),
      ['64 names within an hour', '64 names within an hour', '10 names within an hour'].map((reason) => [
        'server',
        '2001:db8::/64',
        reason,
      ]),
    );
    const told = lines().filter((line) => line.includes('password_spraying'));
    assert.equal(told.length, 3);
    assert.match(told[0] ?? '', /"address":"2001:db8::\/64".*"reason":"10 names within an hour"/);
  });
});

const from = (address: string) => ({ ...clientAddress(address), requestId: 'request', userAgent: 'test' });

async function attempt(on: Services, request: LoginRequest, address: string): Promise<string | Required<Tokens>> {
  try {
    return await login(on, request, from(address));
  } catch (error) {
    if (error instanceof Problem) return error.code;
    throw error;
  }
}

const refusal = (on: Services, request: LoginRequest): Promise<Problem<string>> =>
  login(on, request, from('192.0.2.1')).then(
    () => assert.fail('let in'),
    (error: unknown) => {
      if (error instanceof Problem) return error;
      throw error;
    },
  );

/** A house on a real file, and one user, `Anna`. */
const makeHouse = (t: TestContext) => openTestHouse(t, password, { DATABASE_URL: 'sqlite:portcullis.db' });
