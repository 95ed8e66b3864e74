import assert from 'node:assert/strict';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setImmediate as nextTurn } from 'node:timers/promises';
import { suite, test, type TestContext } from 'node:test';
import { addressBlock, manualClock, type Problem, type Refusal } from '@portcullis/guard';
import { revokedSessions } from '../src/domain/session/revoked-sessions.ts';
import type { Ended } from '../src/domain/session/session.ts';
import { addUser, getUser } from '../src/flows/add-user.ts';
import { disableUser, enableUser, removeUser, setPassword } from '../src/flows/change-user.ts';
import { login } from '../src/flows/login.ts';
import { logout, logoutByRefreshToken } from '../src/flows/logout.ts';
import { refresh } from '../src/flows/refresh.ts';
import type { Services, Tokens } from '../src/flows/services.ts';
import { securityLog } from '../src/lib/security-log.ts';
import { openTestHouse } from '../../../test/support/house.ts';
import { until } from '../../../test/support/program.ts';

const password = 'a sentence is easy to remember';
const anna = { username: 'Anna', password };
const origin = { address: '192.0.2.1', block: '192.0.2.1', requestId: 'request', userAgent: 'test' } as const;

suite('refresh', () => {
  test('fifty at once get the one successor, each with an access token of its own, and the chain goes on', async (t) => {
    const { services } = await makeHouse(t);
    const first = await login(services, anna, origin);
    const all = await Promise.all(Array.from({ length: 50 }, () => refresh(services, first.refreshToken, origin)));
    const [next = '', ...others] = new Set(all.map(({ refreshToken }) => refreshToken));
    assert.deepEqual(others, []);
    assert.notEqual(next, first.refreshToken);
    assert.equal(new Set(all.map(({ accessToken }) => accessToken)).size, 50);
    assert.equal((await live(services))[0]?.generation, 1);
    await refresh(services, next, origin);
    assert.equal((await live(services))[0]?.generation, 2);
  });

  test('strict: of fifty at once one gets the successor, and by the others the session is over for all', async (t) => {
    const { services } = await makeHouse(t, { REFRESH_GRACE: '0' });
    const first = await login(services, anna, origin);
    const all = await Promise.allSettled(Array.from({ length: 50 }, () => refresh(services, first.refreshToken, origin)));
    const won = all.flatMap((one) => (one.status === 'fulfilled' ? [one.value] : []));
    assert.equal(won.length, 1);
    for (const one of all) if (one.status === 'rejected') assert.equal(one.reason.code, 'token_revoked');
    await assert.rejects(refresh(services, won[0]?.refreshToken ?? '', origin), { code: 'token_revoked' });
    assert.deepEqual(await live(services), []);
    assert.equal((await services.audit.list({ limit: 100, action: 'refresh_replayed' })).length, 1);
    assert.equal(await services.revoked.isRevoked(sessionOf(first)), true);
  });

  test('a token with a bad MAC is refused without a look into the store, and ends nothing', async (t) => {
    const { services } = await makeHouse(t);
    const { refreshToken } = await login(services, anna, origin);
    const counted = counting(services);
    for (const forged of [
      `${refreshToken.slice(0, 60)}${refreshToken[60] === 'A' ? 'B' : 'A'}${refreshToken.slice(61)}`,
      refreshToken.slice(0, -1),
      `${refreshToken} `,
      '',
      'prt_',
      'x'.repeat(1_000_000),
    ]) {
      await assert.rejects(refresh(counted.on, forged, origin), { code: 'token_invalid' });
      await logoutByRefreshToken(counted.on, forged, origin);
    }
    assert.deepEqual(counted.calls, []);
    await refresh(services, refreshToken, origin);
  });
});

suite('login', () => {
  test('wrong, unknown, disabled and without a password: one hash, the same reads and writes, the same answer', async (t) => {
    const { services, hashes } = await makeHouse(t);
    for (const name of ['disabled', 'bare']) await addUser(services, name, password);
    await disableUser(services, 'disabled');
    await services.credentials.remove((await getUser(services, 'bare')).id);

    const cost = async (who: { username: string; password: string }) => {
      const counted = counting(services);
      const before = hashes.done().hashes;
      const { code, message, extra } = await login(counted.on, who, origin).then(
        () => assert.fail('let in'),
        (error: Problem<string>) => error,
      );
      return {
        calls: counted.calls,
        hashes: hashes.done().hashes - before,
        code,
        answer: { ...extra, logged: undefined },
        message: message.slice(0, message.indexOf(':')),
      };
    };
    const wrong = await cost({ username: 'Anna', password: 'wrong' });
    assert.deepEqual(wrong.calls, ['users.findByName', 'credentials.findPassword', 'together', 'guesses.take', 'together', 'audit.tally']);
    assert.equal(wrong.hashes, 1);
    assert.equal(wrong.code, 'credentials_invalid');
    for (const who of [
      { username: 'nobody', password },
      { username: 'nobody', password: 'wrong' },
      { username: 'disabled', password },
      { username: 'disabled', password: 'wrong' },
      { username: 'bare', password },
      { username: '', password: '' },
    ]) {
      assert.deepEqual(await cost(who), wrong, who.username);
    }
    assert.deepEqual(await live(services), []);
  });

  test('a password that was changed while its hash was computed opens nothing, nor does a user disabled or removed meanwhile', async (t) => {
    const { services } = await makeHouse(t);
    const meanwhile = (act: () => Promise<unknown>): Services => ({
      ...services,
      passwords: {
        ...services.passwords,
        verify: async (...given) => {
          const isRight = await services.passwords.verify(...given);
          await act();
          return isRight;
        },
      },
    });
    const refused = { code: 'credentials_invalid', reason: 'changed meanwhile' };
    await assert.rejects(
      login(
        meanwhile(() => setPassword(services, 'anna', 'another long sentence')),
        anna,
        origin,
      ),
      refused,
    );
    const now = { ...anna, password: 'another long sentence' };
    await assert.rejects(
      login(
        meanwhile(() => disableUser(services, 'anna')),
        now,
        origin,
      ),
      refused,
    );
    await enableUser(services, 'anna');
    await assert.rejects(
      login(
        meanwhile(() => removeUser(services, 'anna')),
        now,
        origin,
      ),
      refused,
    );
    assert.deepEqual(await live(services), []);
    assert.equal((await services.audit.list({ limit: 10, action: 'login_failed' })).length, 3);
  });

  test('one session a user: of many logins at once one is left, and every other one is refused at once', async (t) => {
    const { services } = await makeHouse(t, { SESSIONS_PER_USER: '1' });
    const all = await Promise.all(Array.from({ length: 5 }, () => login(services, anna, origin)));
    const [left, ...more] = await live(services);
    assert.deepEqual(more, []);
    for (const tokens of all) assert.equal(await services.revoked.isRevoked(sessionOf(tokens)), sessionOf(tokens) !== left?.id);
    const last = await login(services, anna, origin);
    assert.equal((await live(services))[0]?.id, sessionOf(last));
  });

  test("who takes a removed user's name gets none of its sessions, and loses none of its own", async (t) => {
    const { services } = await makeHouse(t);
    const old = await login(services, anna, origin);
    await removeUser(services, 'anna');
    await addUser(services, 'anna', password);
    await assert.rejects(refresh(services, old.refreshToken, origin), { code: 'token_revoked' });
    const own = await login(services, anna, origin);
    await logoutByRefreshToken(services, old.refreshToken, origin);
    await refresh(services, own.refreshToken, origin);
    assert.deepEqual([await services.revoked.isRevoked(sessionOf(old)), await services.revoked.isRevoked(sessionOf(own))], [true, false]);
  });
});

suite('the record', () => {
  test('each act has its row and its line', async (t) => {
    const { services, lines } = await makeHouse(t);
    const first = await login(services, anna, origin);
    const next = await refresh(services, first.refreshToken, origin);
    await refresh(services, next.refreshToken, origin);
    await assert.rejects(refresh(services, first.refreshToken, origin), { code: 'token_revoked' });
    const second = await login(services, anna, origin);
    await logout(services, { sessionId: sessionOf(second) }, origin);
    await setPassword(services, 'anna', 'another long sentence');
    await disableUser(services, 'anna');
    await enableUser(services, 'anna');
    await removeUser(services, 'anna');
    await assert.rejects(setPassword(services, 'anna', 'another long sentence'), { code: 'user_unknown' });
    const acts = (await services.audit.list({ limit: 100 })).map(({ action }) => action).toSorted();
    assert.deepEqual(acts, [
      'key_made',
      'login',
      'login',
      'logout',
      'password_set',
      'refresh_replayed',
      'user_added',
      'user_disabled',
      'user_enabled',
      'user_removed',
    ]);
    await until(() => lines().length >= acts.length); // a line may be on its way to the disk
    const written = lines().map((line) => JSON.parse(line));
    assert.deepEqual(written.map(({ act }) => act).toSorted(), acts);
    assert.deepEqual(
      new Set(written.flatMap((line) => Object.keys(line))),
      new Set(['level', 'time', 'act', 'auditId', 'by', 'userId', 'username', 'sessionId', 'address', 'requestId', 'reason', 'count']),
    );
  });
});

suite('the security log', () => {
  test('a flood is one line at once, then one a minute with the count; a quiet minute, and it is a first one again', (t) => {
    const { log, clock, lines } = makeLog(t);
    const minute = (perTenSeconds: number) => {
      for (let i = 0; i < 6; i += 1) {
        for (let n = 0; n < perTenSeconds; n += 1) log.refused(refusal());
        clock.advance(10_000);
        log.flush();
      }
    };
    for (let i = 0; i < 5; i += 1) minute(100);
    const counts = lines().map(({ count }) => count);
    assert.deepEqual(counts, [undefined, 599, 600, 600, 600, 600]);
    minute(0);
    assert.equal(lines().length, 6);
    minute(1);
    assert.deepEqual(
      lines()
        .slice(6)
        .map(({ count }) => count),
      [undefined, 5],
    );
  });

  test('each reason and each address block has a first line of its own; what was summed is written at the end', (t) => {
    const { log, clock, lines } = makeLog(t);
    for (const code of ['token_invalid', 'token_revoked'])
      for (const address of ['192.0.2.1', '192.0.2.2', '2001:db8::1', '2001:db8::2']) log.refused(refusal({ code, from: from(address) }));
    assert.equal(lines().length, 6);
    const since = new Date(clock.now()).toISOString();
    clock.advance(1_000);
    log.close();
    assert.deepEqual(
      lines()
        .slice(6)
        .map(({ code, block, count, since }) => ({ code, block, count, since })),
      ['token_invalid', 'token_revoked'].map((code) => ({ code, block: '2001:db8::/64', count: 1, since })),
    );
  });

  test('more than ten thousand at a time are summed together', (t) => {
    const { log, clock, lines } = makeLog(t);
    for (let i = 0; i < 12_000; i += 1) log.refused(refusal({ from: from(`10.${i >> 16}.${(i >> 8) & 255}.${i & 255}`) }));
    assert.equal(lines().length, 10_000);
    clock.advance(60_000);
    log.flush();
    assert.deepEqual(
      lines()
        .slice(10_000)
        .map(({ code, block, count }) => ({ code, block, count })),
      [{ code: 'many', block: 'many', count: 2_000 }],
    );
    log.refused(refusal({ from: from('11.0.0.1') }));
    assert.equal(lines().length, 10_002);
  });

  test('whatever a username is made of, it is one short line that shows what it is', async (t) => {
    const { services } = await makeHouse(t);
    const { log, lines, text } = makeLog(t);
    const names = [
      'a\n{"act":"login"}',
      'a\r\nb',
      '\u001b[2J\u001b]0;title\u0007',
      'a\u202egnp.exe',
      'zero\u200bwidth\ufeff',
      'nul\u0000',
      '\u2028\u2029',
      '\ud800',
      '"quote\\',
      'x'.repeat(8 * 1_048_576),
      '\u{e0041}tag',
      '\u{1f600}'.repeat(500),
    ];
    for (const [i, username] of names.entries()) {
      const problem = await login(
        { ...services, passwords: { ...services.passwords, verify: async () => false } },
        { username, password: 'wrong' },
        origin,
      ).then(
        () => assert.fail(),
        (error: Problem<string>) => error,
      );
      log.refused(refusal({ code: problem.code, reason: problem.reason, logged: problem.extra.logged ?? {}, from: from(`192.0.2.${i}`) }));
    }
    assert.equal(lines().length, names.length);
    for (const line of text().trimEnd().split('\n')) {
      assert.ok(line.length < 1_500, `${line.length}`);
      assert.doesNotMatch(line, /[\p{C}\p{Zl}\p{Zp}]/u);
    }
    assert.match(lines()[3]?.username ?? '', /^a\\u\{202e\}gnp\.exe$/);
    for (const { username } of await services.audit.list({ limit: 100, action: 'login_failed' })) {
      assert.ok((username?.length ?? 0) < 1_300);
      assert.doesNotMatch(username ?? '', /[\p{C}\p{Zl}\p{Zp}]/u);
    }
  });
});

suite('revoked sessions', () => {
  const ended = (id: string): Ended => ({ id, userId: 'usr_1', accessUntil: Number.MAX_SAFE_INTEGER });
  type Store = { truth: Ended[]; changed: boolean; broken: boolean; asked: number };
  const make = () => {
    const store: Store = { truth: [], changed: false, broken: false, asked: 0 };
    const revoked = revokedSessions({
      clock: manualClock(),
      sessions: {
        async listRevoked() {
          await nextTurn();
          if (store.broken) throw new Error('no store');
          return store.truth;
        },
      },
      changedElsewhere() {
        store.asked += 1;
        const { changed } = store;
        store.changed = false;
        return changed;
      },
    });
    return { store, revoked };
  };

  test('what another process has ended is refused from the next turn on; the store is asked once a turn', async () => {
    const { store, revoked } = make();
    assert.equal(revoked.isRevoked('ses_1'), false);
    Object.assign(store, { truth: [ended('ses_1')], changed: true });
    await nextTurn();
    const all = await Promise.all(Array.from({ length: 100 }, () => revoked.isRevoked('ses_1')));
    assert.ok(all.every((answer) => answer));
    assert.equal(store.asked, 2);
  });

  test('a change that cannot be read leaves nobody believed, until it has been read', async () => {
    const { store, revoked } = make();
    Object.assign(store, { truth: [ended('ses_1')], changed: true, broken: true });
    for (let i = 0; i < 3; i += 1) {
      await assert.rejects(async () => revoked.isRevoked('ses_1'), /no store/);
      await assert.rejects(async () => revoked.isRevoked('ses_2'), /no store/);
      await nextTurn();
    }
    void revoked.look(); // by the clock, with nobody waiting: its failure must not end the process
    await nextTurn();
    store.broken = false;
    await nextTurn();
    assert.deepEqual([await revoked.isRevoked('ses_1'), await revoked.isRevoked('ses_2')], [true, false]);
    await nextTurn();
    assert.equal(revoked.isRevoked('ses_1'), true, 'at once again');
  });

  test('a change during the reading of a change is read too', async () => {
    const { store, revoked } = make();
    Object.assign(store, { truth: [ended('ses_1')], changed: true });
    void revoked.look();
    Object.assign(store, { truth: [ended('ses_1'), ended('ses_2')], changed: true });
    await nextTurn();
    assert.equal(await revoked.isRevoked('ses_2'), true);
  });
});

const makeHouse = (t: TestContext, settings?: Record<string, string>) => openTestHouse(t, password, settings);

function makeLog(t: TestContext) {
  const folder = mkdtempSync(join(tmpdir(), 'portcullis-test-'));
  t.after(() => rmSync(folder, { recursive: true, force: true }));
  const file = join(folder, 'security.log');
  const clock = manualClock();
  const text = () => readFileSync(file, 'utf8');
  const lines = (): Record<string, string | undefined>[] =>
    text()
      .trimEnd()
      .split('\n')
      .map((line) => JSON.parse(line));
  return { log: securityLog({ file, clock, sync: true }), clock, text, lines };
}

const from = (address: string) => ({ address, block: addressBlock(address) });

const refusal = (more: Partial<Refusal> = {}): Refusal => ({
  code: 'token_invalid',
  status: 401,
  reason: 'form',
  from: from('192.0.2.1'),
  method: 'GET',
  route: '/protected',
  requestId: 'request',
  userId: undefined,
  sessionId: undefined,
  logged: {},
  error: undefined,
  ...more,
});

/** The services, and the name of every call to a store that is made through them. */
function counting(services: Services): { on: Services; calls: string[] } {
  const calls: string[] = [];
  const counted = <T extends object>(name: string, port: T): T =>
    new Proxy(port, {
      get(target, property, receiver) {
        const method: unknown = Reflect.get(target, property, receiver);
        return typeof method !== 'function'
          ? method
          : (...given: unknown[]) => {
              calls.push(`${name}.${String(property)}`);
              return method.apply(target, given);
            };
      },
    });
  const stores = <S extends Pick<Services, 'users' | 'credentials' | 'sessions' | 'keys' | 'audit' | 'guesses'>>(of: S) => ({
    users: counted('users', of.users),
    credentials: counted('credentials', of.credentials),
    sessions: counted('sessions', of.sessions),
    keys: counted('keys', of.keys),
    audit: counted('audit', of.audit),
    guesses: counted('guesses', of.guesses),
  });
  const together: Services['together'] = (work) => {
    calls.push('together');
    return services.together((within) => work(stores(within)));
  };
  return { on: { ...services, ...stores(services), together }, calls };
}

const live = ({ sessions, clock }: Services) => sessions.listLive({ at: clock.now(), limit: 100 });

const sessionOf = ({ accessToken }: Tokens): string => JSON.parse(Buffer.from(accessToken.split('.')[1] ?? '', 'base64url').toString()).sid;
