import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { disableUser } from '../packages/server/src/flows/change-user.ts';
import { addUser } from '../packages/server/src/flows/add-user.ts';
import type { Stores } from '../packages/server/src/domain/stores.ts';
import type { House } from '../packages/server/src/house.ts';
import { openApp, PASSWORD } from './support/house.ts';
import { shared, wideLimits } from './support/program.ts';

/** Each call of a store, as `users.findByName`, in its order; inside a transaction as `(audit.tally)`. */
let calls: string[] = [];

const counting = (stores: Stores, shown: (call: string) => string): Stores =>
  Object.fromEntries(
    (['users', 'credentials', 'sessions', 'keys', 'audit', 'guesses'] as const).map((name) => [
      name,
      new Proxy(stores[name], {
        get(store, method: string) {
          const act = Reflect.get(store, method) as (...given: unknown[]) => unknown; // stores have methods alone
          return (...given: unknown[]) => {
            calls.push(shown(`${name}.${method}`));
            return act(...given);
          };
        },
      }),
    ]),
  ) as Stores; // the same six

const counted = (house: House): House => ({
  ...house,
  services: {
    ...house.services,
    ...counting(house.services, (call) => call),
    together: (work) => house.services.together((stores) => work(counting(stores, (call) => `(${call})`))),
  },
});

describe('what a login costs', () => {
  const opened = shared(async (t) => {
    const LOGIN_LIMITS = '1000000 per minute by ip; 4 per minute by username';
    const { app, house } = await openApp(t, { ...wideLimits, LOGIN_LIMITS }, { house: counted });
    await addUser(house.services, 'mallory', PASSWORD);
    await disableUser(house.services, 'mallory');
    return { app, house };
  });

  async function attempt(
    payload: unknown,
  ): Promise<{ status: number; headers: Record<string, unknown>; body: any; hashes: number; calls: string[] }> {
    // whatever it says
    calls = [];
    const { app, house } = opened;
    const hashed = house.hashes.done().hashes;
    const {
      statusCode: status,
      headers,
      body,
    } = await app.inject({
      method: 'POST',
      url: '/login',
      headers: { host: 'localhost', 'content-type': 'application/json' },
      payload: JSON.stringify(payload),
    });
    return { status, headers, body: JSON.parse(body), hashes: house.hashes.done().hashes - hashed, calls };
  }

  test('wrong password, unknown user, disabled user: one hash, the same reads, the same writes, the same answer', async () => {
    const first = await attempt({ username: 'alice', password: 'x' });
    assert.equal(first.status, 401);
    assert.equal(first.body.msg, 'Invalid credentials');
    assert.equal(first.hashes, 1);
    assert.deepEqual(first.calls, ['users.findByName', 'credentials.findPassword', '(guesses.take)', '(audit.tally)']);
    const steady = ({ headers: { 'x-request-id': _, date: __, ratelimit: ___, ...headers }, body, ...others }: typeof first) => ({
      ...others,
      headers,
      body: { ...body, instance: '' },
    });
    for (const [username, password] of [
      ['nobody', PASSWORD],
      ['mallory', PASSWORD],
      ['mallory', 'x'],
      ['x'.repeat(1_024), 'x'.repeat(4_096)],
      ['', ''],
      ['__proto__', 'x'],
    ]) {
      assert.deepEqual(steady(await attempt({ username, password })), steady(first), `${username}`);
    }
  });

  test('the right password: one hash, too', async () => {
    const { status, hashes } = await attempt({ username: 'alice', password: PASSWORD });
    assert.equal(`${status} ${hashes}`, '200 1');
  });

  test('what is refused for its form or by a limit: no hash, and no store is asked', async () => {
    for (const wrong of [
      null,
      [],
      {},
      { username: 'alice' },
      { username: ['alice'], password: PASSWORD },
      { username: 'alice', password: PASSWORD, x: 1 },
    ]) {
      const { status, hashes, calls: asked } = await attempt(wrong);
      assert.deepEqual([status, hashes, asked], [400, 0, []]);
    }
    let last = await attempt({ username: 'victim', password: 'x' });
    for (let i = 1; i < 4; i += 1) last = await attempt({ username: 'victim', password: 'x' });
    assert.deepEqual([last.status, last.hashes], [401, 1]);
    for (const username of ['victim', 'VICTIM', ' ｖictim ']) {
      const { status, hashes, calls: asked, body } = await attempt({ username, password: 'x' });
      assert.deepEqual([status, hashes, asked, body['violated-policies']], [429, 0, [], ['login-by-username']]);
    }
    assert.equal((await attempt({ username: 'alice', password: PASSWORD })).status, 200);
  });
});

test('over the guesses of a name: no hash, the same looks, the same answer, be the name known or not and the password right or wrong', async (t) => {
  const { app, house } = await openApp(t, wideLimits, { house: counted });
  await addUser(house.services, 'mallory', PASSWORD);
  await disableUser(house.services, 'mallory');
  const attempt = async (username: string, password: string, more = {}) => {
    calls = [];
    const hashed = house.hashes.done().hashes;
    const { statusCode, headers, body } = await app.inject({
      method: 'POST',
      url: '/login',
      headers: { host: 'localhost', 'content-type': 'application/json' },
      payload: JSON.stringify({ username, password, ...more }),
    });
    const { 'x-request-id': _, date: __, ratelimit: ___, 'retry-after': retryAfter, ...steady } = headers;
    const hashes = house.hashes.done().hashes - hashed;
    return { statusCode, headers: steady, retryAfter, body: { ...JSON.parse(body), instance: '' }, hashes, calls };
  };
  for (const name of ['alice', 'nobody', 'mallory']) for (let i = 0; i < 5; i += 1) assert.equal((await attempt(name, 'x')).hashes, 1);
  const first = await attempt('alice', 'x');
  const looks = ['users.findByName', 'credentials.findPassword', '(guesses.take)'];
  assert.deepEqual([first.statusCode, first.body.code, first.hashes, first.calls], [429, 'too_many_attempts', 0, looks]);
  for (const name of ['alice', 'ALICE', 'nobody', 'mallory'])
    for (const password of ['x', PASSWORD])
      for (const more of [{}, { device_token: 'pdt_' }, { device_token: `pdt_${'A'.repeat(72)}` }]) {
        const { retryAfter, ...others } = await attempt(name, password, more);
        const { retryAfter: __, ...expected } = first;
        assert.deepEqual(others, expected, name);
        assert.ok(Number(retryAfter) > 50 && Number(retryAfter) <= 60, `${retryAfter}`);
      }
});

test('over the limit of an address: no hash, no store, whatever it holds', async (t) => {
  const { app, house } = await openApp(t, { LOGIN_LIMITS: '1 per minute' }, { house: counted });
  const attempt = (payload: string) =>
    app.inject({ method: 'POST', url: '/login', headers: { host: 'localhost', 'content-type': 'application/json' }, payload });
  assert.equal((await attempt('{')).statusCode, 400);
  calls = [];
  const hashed = house.hashes.done().hashes;
  for (const payload of [JSON.stringify({ username: 'alice', password: PASSWORD }), '{', '', 'x'.repeat(100_000)])
    assert.equal((await attempt(payload)).statusCode, 429);
  assert.deepEqual([calls, house.hashes.done().hashes - hashed], [[], 0]);
});
