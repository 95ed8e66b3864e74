import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, suite, test } from 'node:test';
import { type Clock, manualClock, Problem } from '@portcullis/guard';
import fc from 'fast-check';
import { addUser } from '../src/flows/add-user.ts';
import { disableUser, enableUser, setPassword } from '../src/flows/change-user.ts';
import { endSession, endSessionsOf } from '../src/flows/end-session.ts';
import { ensureSigningKey } from '../src/flows/keep-keys.ts';
import { login } from '../src/flows/login.ts';
import { logout, logoutByRefreshToken } from '../src/flows/logout.ts';
import { refresh } from '../src/flows/refresh.ts';
import type { Lifetimes, Services, Tokens } from '../src/flows/services.ts';
import { openHouse } from '../src/house.ts';
import { readSettings } from '../src/settings/read.ts';
import { without } from '../../../test/support/needs.ts';
import { isPostgresHere, startPostgres } from '../../../test/support/postgres.ts';

/*
 * R1 to R5 where acts really are under way at once: two processes' worth of connections to one PostgreSQL. The order in which
 * they took effect is not known, so one is looked for in which each could have been answered as it was, and which leaves
 * the store as it is found. The rules of one act after the other are the model below.
 */

const base = { refreshTokenTtlMs: 3_600_000, refreshGraceMs: 10_000, sessionIdleTtlMs: undefined, sessionsPerUser: 3 } as const;
const kinds: Record<string, Lifetimes> = {
  'with a grace': base,
  strict: { ...base, refreshGraceMs: 0 },
  'with an idle end, one session a user': { ...base, sessionIdleTtlMs: 1_200_000, sessionsPerUser: 1 },
};

type Act =
  | { readonly do: 'login'; readonly password: 'current' | 'former' }
  | { readonly do: 'refresh' | 'logout by refresh' | 'logout' | 'end'; readonly pick: number }
  | { readonly do: 'end all' | 'disable' | 'enable' | 'set password' };

const pick = fc.oneof({ weight: 5, arbitrary: fc.nat(2) }, { weight: 1, arbitrary: fc.nat(30) });
const act: fc.Arbitrary<Act> = fc.oneof(
  { weight: 5, arbitrary: fc.record({ do: fc.constant('login' as const), password: fc.constantFrom('current', 'current', 'former') }) },
  { weight: 10, arbitrary: fc.record({ do: fc.constant('refresh' as const), pick }) },
  { weight: 4, arbitrary: fc.record({ do: fc.constantFrom('logout by refresh', 'logout', 'end'), pick }) },
  { weight: 3, arbitrary: fc.record({ do: fc.constantFrom('disable', 'enable', 'enable', 'set password', 'end all') }) },
);
const waits = [0, 0, 1, base.refreshGraceMs - 1, base.refreshGraceMs, 1_200_000, base.refreshTokenTtlMs];
const plan = fc.array(fc.record({ acts: fc.array(act, { minLength: 1, maxLength: 6 }), thenMs: fc.constantFrom(...waits) }), {
  minLength: 2,
  maxLength: 10,
});

const skip = without('PostgreSQL', isPostgresHere);

suite('acts at the same moment, over two instances on PostgreSQL, keep R1 to R5', { skip }, () => {
  const folder = mkdtempSync(join(tmpdir(), 'portcullis-test-'));
  const clock = manualClock();
  let postgres: Awaited<ReturnType<typeof startPostgres>>;
  let houses: Awaited<ReturnType<typeof openHouse>>[] = [];
  before(async () => {
    postgres = await startPostgres();
    const url = await postgres.newDatabase();
    houses = await Promise.all([open(url, clock), open(url, clock)]);
  });
  after(async () => {
    for (const house of houses) await house.close();
    await postgres?.stop();
    rmSync(folder, { recursive: true, force: true });
  });

  async function open(url: string, time: Clock) {
    const env = {
      PORTCULLIS_DATA_DIR: folder,
      PORTCULLIS_DATABASE_URL: url,
      PORTCULLIS_ISSUER: 'https://localhost',
      PORTCULLIS_MASTER_SECRET: 'q3ZkT0v9yX7uB1nLw5cRj8sHd2fGm6aE4pKi',
      PORTCULLIS_TLS_CERT_FILE: 'none',
      PORTCULLIS_TLS_KEY_FILE: 'none',
    };
    const reading = readSettings({ mode: 'serve', env, flags: {}, readFile: () => '' });
    if ('mistakes' in reading) throw new Error(reading.mistakes.join('; '));
    const house = await openHouse({ settings: reading.settings, issuer: 'https://localhost', secrets: ['secret'], clock: time });
    await ensureSigningKey(house.services, 'EdDSA', 'secret');
    await house.services.keyRing.load();
    return house;
  }

  let users = 0;
  /** A user of its own for each run, and the services of both instances under these lifetimes. */
  async function newUser(of: typeof houses, lifetimes: Lifetimes): Promise<{ name: string; on: (turn: number) => Services }> {
    const name = `anna ${(users += 1)}`;
    const both = of.map(({ services }) => cheaply(services, lifetimes));
    const [one] = both;
    assert.ok(one);
    await addUser(one, name, 'password 0');
    return { name, on: (turn) => both[turn % 2] ?? one };
  }

  for (const [kind, lifetimes] of Object.entries(kinds)) {
    test(kind, { timeout: 120_000 }, () =>
      fc.assert(
        fc.asyncProperty(plan, async (steps) => {
          await live(await newUser(houses, lifetimes), clock, lifetimes, steps);
        }),
        { numRuns: 12, endOnFailure: true },
      ),
    );
  }

  test(
    'a login at the same moment as the user is disabled, or the password set, leaves no session behind',
    { timeout: 60_000 },
    async () => {
      const url = await postgres.newDatabase();
      const both = [await open(url, clock), await open(url, clock)];
      const { name, on } = await newUser(both, { ...base, sessionsPerUser: 100 });
      let opened = 0;
      for (let round = 0; round < 60; round++) {
        const password = `password ${round}`;
        await setPassword(on(0), name, password);
        const tryIt = (turn: number) => settled(login(on(turn), { username: name, password }, sender));
        const forbid = round % 2 ? disableUser(on(round >> 1), name) : setPassword(on(round >> 1), name, 'another');
        const answers = await Promise.all([tryIt(0), tryIt(1), tryIt(0), forbid, tryIt(1)]);
        opened += answers.filter((answer) => !Array.isArray(answer) && !(answer instanceof Problem)).length;
        assert.deepEqual(await livingOf(on(0), name, clock.now()), [], `round ${round}`);
        await enableUser(on(1), name);
      }
      assert.ok(opened > 0, 'some were in time, and ended');
      for (const house of both) await house.close();
      const { rows } = await postgres.query(
        `select deadlocks::int from pg_stat_database where datname = '${new URL(url).pathname.slice(1)}'`,
      );
      assert.deepEqual(rows, [{ deadlocks: 0 }], 'none stood in a ring, which would cost a second each');
    },
  );
});

type Session = {
  readonly id: string;
  readonly createdAt: number;
  readonly rotatedAt: number;
  readonly lastUsedAt: number;
  /** The chain, as far as it was handed out. */
  readonly texts: readonly string[];
  readonly isSealed: boolean;
  readonly isEnded: boolean;
};
type World = {
  readonly isEnabled: boolean;
  readonly password: string;
  readonly sessions: readonly Session[];
  readonly onRecord: { readonly login: number; readonly logout: number; readonly refresh_replayed: number };
};
type Token = { readonly sessionId: string; readonly index: number; readonly text: string };

/** An act as it was done: with what, and how it was answered. */
type Done =
  | { readonly do: 'login'; readonly password: string; readonly answer: Tokens | Problem }
  | { readonly do: 'refresh' | 'logout by refresh'; readonly token: Token; readonly answer: unknown }
  | { readonly do: 'logout' | 'end'; readonly sessionId: string; readonly answer: unknown }
  | { readonly do: 'end all' | 'disable' | 'enable'; readonly answer: unknown }
  | { readonly do: 'set password'; readonly password: string; readonly answer: unknown };

/** The rules, one act after the other: the world after this one, or `undefined` where it could not have been answered so. */
function next(world: World, done: Done, at: number, lifetimes: Lifetimes): World | undefined {
  const { sessions, onRecord } = world;
  const { refreshTokenTtlMs: ttl, sessionIdleTtlMs: idle, refreshGraceMs: grace } = lifetimes;
  const isLiving = (session: Session): boolean => !session.isEnded && at < session.createdAt + ttl;
  const put = (...changed: Session[]): Session[] => sessions.map((session) => changed.find(({ id }) => id === session.id) ?? session);
  const ended = (session: Session): Session => (isLiving(session) ? { ...session, isEnded: true, isSealed: false } : session);
  const counted = (what: keyof World['onRecord']) => ({ ...onRecord, [what]: onRecord[what] + 1 });
  const code = done.answer instanceof Problem ? done.answer.code : undefined;

  switch (done.do) {
    case 'login': {
      const isRight = world.isEnabled && done.password === world.password;
      if (done.answer instanceof Problem) return !isRight && code === 'credentials_invalid' ? world : undefined;
      if (!isRight) return undefined;
      const others = sessions.filter(isLiving).toSorted((a, b) => b.createdAt - a.createdAt || (a.id < b.id ? 1 : -1));
      const { sessionId: id, refreshToken } = done.answer;
      const session = { id, createdAt: at, rotatedAt: at, lastUsedAt: at, texts: [refreshToken], isSealed: false, isEnded: false };
      return {
        ...world,
        sessions: [...put(...others.slice(lifetimes.sessionsPerUser - 1).map(ended)), session],
        onRecord: counted('login'),
      };
    }
    case 'refresh': {
      const session = sessions.find(({ id }) => id === done.token.sessionId);
      if (!session || session.isEnded || !world.isEnabled) return code === 'token_revoked' ? world : undefined;
      if (!isLiving(session) || (idle !== undefined && at >= session.lastUsedAt + idle))
        return code === 'token_expired' ? world : undefined;
      const { texts } = session;
      const text = code === undefined ? (done.answer as Tokens).refreshToken : undefined; // no problem, so tokens
      const current = texts.length - 1;
      if (done.token.index === current) {
        if (text === undefined || texts.includes(text)) return undefined;
        return { ...world, sessions: put({ ...session, texts: [...texts, text], rotatedAt: at, lastUsedAt: at, isSealed: grace > 0 }) };
      }
      if (done.token.index === current - 1 && session.isSealed && at < session.rotatedAt + grace)
        return text === texts[current] ? world : undefined;
      return code === 'token_revoked' ? { ...world, sessions: put(ended(session)), onRecord: counted('refresh_replayed') } : undefined;
    }
    case 'logout by refresh':
    case 'logout': {
      const id = 'token' in done ? done.token.sessionId : done.sessionId;
      const session = sessions.find((one) => one.id === id);
      if (code !== undefined || !session || !isLiving(session)) return code === undefined ? world : undefined;
      return { ...world, sessions: put(ended(session)), onRecord: counted('logout') };
    }
    case 'end': {
      const session = sessions.find(({ id }) => id === done.sessionId);
      if (!session || !isLiving(session)) return code === 'session_unknown' ? world : undefined;
      return code === undefined ? { ...world, sessions: put(ended(session)) } : undefined;
    }
    case 'end all':
      return code === undefined ? { ...world, sessions: sessions.map(ended) } : undefined;
    case 'enable':
      return code === undefined ? { ...world, isEnabled: true } : undefined;
    case 'disable':
      return code === undefined ? { ...world, isEnabled: false, sessions: sessions.map(ended) } : undefined;
    case 'set password':
      return code === undefined ? { ...world, password: done.password, sessions: sessions.map(ended) } : undefined;
  }
}

/** Every world that some order of these acts leads to. */
function worldsAfter(world: World, all: readonly Done[], at: number, lifetimes: Lifetimes): World[] {
  const found = new Map<string, World>();
  const seen = new Set<string>();
  const go = (reached: World, left: readonly Done[]): void => {
    const key = JSON.stringify([reached, left.map((done) => all.indexOf(done))]);
    if (seen.has(key)) return;
    seen.add(key);
    if (left.length === 0) return void found.set(JSON.stringify(reached), reached);
    left.forEach((done, i) => {
      const led = next(reached, done, at, lifetimes);
      if (led) go(led, left.toSpliced(i, 1));
    });
  };
  go(world, all);
  return [...found.values()];
}

async function live(
  { name, on }: { name: string; on: (turn: number) => Services },
  clock: ReturnType<typeof manualClock>,
  lifetimes: Lifetimes,
  steps: readonly { readonly acts: readonly Act[]; readonly thenMs: number }[],
): Promise<void> {
  let worlds: World[] = [{ isEnabled: true, password: 'password 0', sessions: [], onRecord: { login: 0, logout: 0, refresh_replayed: 0 } }];
  let [former, passwords] = ['never set', 0];

  for (const { acts, thenMs } of steps) {
    const [world] = worlds;
    assert.ok(world);
    const tokens = world.sessions
      .flatMap(({ id, texts }) => texts.map((text, index) => ({ sessionId: id, index, text })))
      .toSorted((a, b) => a.index - b.index);
    const { password } = world;
    const all = (await Promise.all(acts.map((one, turn) => doIt(one, on(turn), { tokens, password })))).filter(
      (done) => done !== undefined,
    );
    const possible = worlds.flatMap((one) => worldsAfter(one, all, clock.now(), lifetimes));
    const found = await look();
    worlds = possible.filter((one) => JSON.stringify(shown(one)) === JSON.stringify(found));
    assert.ok(
      worlds.length > 0,
      `no order explains ${JSON.stringify(all.map((done) => ({ ...done, answer: String(done.answer) })))}\nfound ${JSON.stringify(found)}\nexpected one of ${JSON.stringify(possible.map(shown))}`,
    );
    const [now] = worlds;
    if (now && now.password !== password) former = password;
    clock.advance(thenMs);
  }

  async function doIt(
    one: Act,
    services: Services,
    { tokens, password }: { tokens: Token[]; password: string },
  ): Promise<Done | undefined> {
    const token = 'pick' in one ? tokens.at(-1 - (one.pick % Math.max(1, tokens.length))) : undefined;
    if ('pick' in one && !token) return undefined;
    const { sessionId = '', text = '' } = token ?? {};
    switch (one.do) {
      case 'login': {
        const tried = one.password === 'current' ? password : former;
        return { do: 'login', password: tried, answer: await settled(login(services, { username: name, password: tried }, sender)) };
      }
      case 'refresh':
        return token && { do: 'refresh', token, answer: await settled(refresh(services, text, sender)) };
      case 'logout by refresh':
        return token && { do: 'logout by refresh', token, answer: await settled(logoutByRefreshToken(services, text, sender)) };
      case 'logout':
        return { do: 'logout', sessionId, answer: await settled(logout(services, { sessionId }, sender)) };
      case 'end':
        return { do: 'end', sessionId, answer: await settled(endSession(services, sessionId)) };
      case 'end all':
        return { do: one.do, answer: await settled(endSessionsOf(services, name)) };
      case 'disable':
        return { do: one.do, answer: await settled(disableUser(services, name)) };
      case 'enable':
        return { do: one.do, answer: await settled(enableUser(services, name)) };
      case 'set password': {
        const next = `password ${(passwords += 1)}`;
        return { do: one.do, password: next, answer: await settled(setPassword(services, name, next)) };
      }
    }
  }

  /** What the store says, as far as a world says it; on both instances no ended session is believed, and every living one is. */
  async function look(): Promise<unknown> {
    const services = on(0);
    const user = await services.users.findByName(name);
    const credential = await services.credentials.findPassword(user?.id ?? '');
    const ids = [...new Set(worlds.flatMap(({ sessions }) => sessions.map(({ id }) => id)))];
    const listed = await services.audit.list({ limit: 10_000, userId: user?.id ?? '' });
    for (const { sessionId } of listed) if (sessionId !== undefined && !ids.includes(sessionId)) ids.push(sessionId);
    const sessions = [];
    for (const id of ids.toSorted()) {
      const row = await services.sessions.find(id);
      const isEnded = row?.endedAt !== undefined;
      for (const instance of [0, 1]) assert.equal(await on(instance).revoked.isRevoked(id), isEnded, 'R4');
      sessions.push([id, row?.generation, isEnded, row?.lastUsedAt, row?.expiresAt]);
    }
    const living = await livingOf(services, name, clock.now());
    assert.ok(living.length <= lifetimes.sessionsPerUser, 'a user has at most so many');
    const count = (action: string): number => listed.filter((entry) => entry.action === action).length;
    return [
      user?.disabledAt === undefined,
      credential?.passwordHash.replace('hash of ', ''),
      sessions,
      [count('login'), count('logout'), count('refresh_replayed')],
    ];
  }

  function shown({ isEnabled, password, sessions, onRecord }: World): unknown {
    const rows = sessions
      .toSorted((a, b) => (a.id < b.id ? -1 : 1))
      .map(({ id, texts, isEnded, lastUsedAt, createdAt }) => [
        id,
        texts.length - 1,
        isEnded,
        lastUsedAt,
        createdAt + lifetimes.refreshTokenTtlMs,
      ]);
    return [isEnabled, password, rows, [onRecord.login, onRecord.logout, onRecord.refresh_replayed]];
  }
}

/** The real flows on the real store; hashing costs nothing, and everyone may guess as often as they like. */
function cheaply(services: Services, lifetimes: Lifetimes): Services {
  return {
    ...services,
    lifetimes,
    checkNewPassword: () => {},
    passwords: {
      hash: async (password) => `hash of ${password}`,
      verify: async (password, hash) => hash === `hash of ${password}`,
      assertRoom: () => {},
    },
    together: (work) =>
      services.together((stores) =>
        work({ ...stores, guesses: { ...stores.guesses, take: async ({ key }, at) => ({ key, at }), giveBack: async () => {} } }),
      ),
  };
}

async function livingOf(services: Services, name: string, at: number) {
  const user = await services.users.findByName(name);
  return services.sessions.listLive({ userId: user?.id ?? '', at, limit: 1_000 });
}

const sender = { address: '192.0.2.1', block: '192.0.2.1', requestId: 'request', userAgent: 'test' } as const;

const settled = <T>(work: Promise<T>): Promise<T | Problem> =>
  work.catch((error: unknown) => {
    if (error instanceof Problem) return error;
    throw error;
  });
