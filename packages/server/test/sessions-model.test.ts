import assert from 'node:assert/strict';
import { copyFileSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, suite, test } from 'node:test';
import { accessTokens, type Clock, manualClock, Problem } from '@portcullis/guard';
import fc from 'fast-check';
import { guessTurns } from '../src/domain/guess/guess-turns.ts';
import { guessPlaces } from '../src/domain/guess/guess-places.ts';
import { sprayWatch } from '../src/domain/guess/spraying.ts';
import { keyRing } from '../src/domain/key/key-ring.ts';
import { revokedSessions } from '../src/domain/session/revoked-sessions.ts';
import { accessTokenMint } from '../src/domain/token/access-token.ts';
import { csrfTokens } from '../src/domain/session/csrf-tokens.ts';
import { deviceTokens } from '../src/domain/token/device-token.ts';
import { refreshTokens } from '../src/domain/token/refresh-token.ts';
import { addUser } from '../src/flows/add-user.ts';
import { disableUser, enableUser, setPassword } from '../src/flows/change-user.ts';
import { endSession, endSessionsOf } from '../src/flows/end-session.ts';
import { clearSeals, keepHouse } from '../src/flows/keep-house.ts';
import { ensureSigningKey } from '../src/flows/keep-keys.ts';
import { login } from '../src/flows/login.ts';
import { logout, logoutByRefreshToken } from '../src/flows/logout.ts';
import { refresh } from '../src/flows/refresh.ts';
import type { Lifetimes, Services, Tokens } from '../src/flows/services.ts';
import { sqliteStore } from '../src/storage/sql/sql-store.ts';

const accessTtlMs = 900_000;
const keptMs = 7 * 86_400_000;
const base = { refreshTokenTtlMs: 3_600_000, refreshGraceMs: 10_000, sessionIdleTtlMs: undefined, sessionsPerUser: 3 } as const;

/**
 * What anyone may do, and when. `pick` counts back from what was handed out last: a thief and an owner alike hold any
 * token that was ever issued.
 */
type Act =
  | { readonly do: 'login'; readonly password: 'current' | 'former' | 'wrong' }
  | { readonly do: 'refresh' | 'logout by refresh' | 'ask' | 'logout by access' | 'end'; readonly pick: number }
  | { readonly do: 'end all' | 'disable' | 'enable' | 'set password' | 'clear seals' | 'keep house' | 'restart' }
  | { readonly do: 'wait'; readonly ms: number };

const pick = fc.oneof({ weight: 4, arbitrary: fc.nat(2) }, { weight: 1, arbitrary: fc.nat(40) });
const spans = [
  1,
  999,
  base.refreshGraceMs - 1,
  base.refreshGraceMs,
  300_000,
  accessTtlMs - 1,
  accessTtlMs,
  1_200_000,
  base.refreshTokenTtlMs - 1,
  base.refreshTokenTtlMs,
  keptMs,
];
const act: fc.Arbitrary<Act> = fc.oneof(
  {
    weight: 6,
    arbitrary: fc.record({
      do: fc.constant('login' as const),
      password: fc.constantFrom('current', 'current', 'current', 'former', 'wrong'),
    }),
  },
  { weight: 14, arbitrary: fc.record({ do: fc.constant('refresh' as const), pick }) },
  { weight: 6, arbitrary: fc.record({ do: fc.constantFrom('logout by refresh', 'ask', 'logout by access', 'end'), pick }) },
  {
    weight: 4,
    arbitrary: fc.record({
      do: fc.constantFrom('disable', 'enable', 'enable', 'set password', 'end all', 'clear seals', 'keep house', 'restart'),
    }),
  },
  { weight: 5, arbitrary: fc.record({ do: fc.constant('wait' as const), ms: fc.constantFrom(...spans) }) },
);
/** Acts of one step are under way at the same time; a step of one operator's act may be another process, as the CLI is. */
const steps = fc.array(fc.record({ acts: fc.array(act, { minLength: 1, maxLength: 5 }), elsewhere: fc.boolean() }), {
  minLength: 1,
  maxLength: 14,
});

suite('any holders of any tokens, in any order, at once or over a restart, get what R1 to R5 promise', () => {
  const folder = mkdtempSync(join(tmpdir(), 'portcullis-test-'));
  const template = join(folder, 'template.db');
  before(async () => {
    const house = await openHouse(template, manualClock(), base);
    await ensureSigningKey(house.services, 'EdDSA', 'secret');
    await addUser(house.services, 'anna', 'password 0');
    await house.close();
  });
  after(() => rmSync(folder, { recursive: true, force: true }));

  const kinds: Record<string, Lifetimes> = {
    'with a grace': base,
    strict: { ...base, refreshGraceMs: 0 },
    'with an idle end, one session a user': { ...base, sessionIdleTtlMs: 1_200_000, sessionsPerUser: 1 },
  };
  for (const [kind, lifetimes] of Object.entries(kinds)) {
    test(kind, { timeout: 120_000 }, async () => {
      let runs = 0;
      await fc.assert(
        fc.asyncProperty(fc.scheduler(), steps, async (scheduler, plan) => {
          const file = join(folder, `${kind} ${(runs += 1)}.db`);
          copyFileSync(template, file);
          await live(file, lifetimes, scheduler, plan);
          for (const end of ['', '-wal', '-shm']) rmSync(file + end, { force: true });
        }),
        { numRuns: 100 },
      );
    });
  }
});

type ModelSession = {
  readonly id: string;
  readonly createdAt: number;
  readonly expiresAt: number;
  /** Texts of the chain, as far as they were handed out. */
  readonly texts: (string | undefined)[];
  /** The living token, as an index of the chain. */
  current: number;
  rotatedAt: number;
  lastUsedAt: number;
  sealed: boolean;
  endedAt: number | undefined;
  /** Somebody has been told that it has ended: from here on no access token of it may pass. */
  toldEnded: boolean;
  deleted: boolean;
};

/** One act under way: what it has seen so far, and what the model says it must be answered. */
type UnderWay = {
  readonly act: Act;
  at: number;
  userEnabled?: boolean;
  credential?: { version: number; password: string };
  newSessionId?: string;
  expected?: { readonly problem: string } | { readonly session: ModelSession; readonly index: number } | 'done';
  touched: ModelSession[];
};

/** The rules once more, as simply as they can be said: no SQL, no hashes, no seals. It is told of each commit, in order. */
function makeModel(lifetimes: Lifetimes) {
  const sessions: ModelSession[] = [];
  const user = { enabled: true, version: 1, password: 'password 0', former: 'never set' };
  const counts = { login: 0, login_failed: 0, logout: 0, refresh_replayed: 0 };

  const isLiving = (session: ModelSession, at: number) => session.endedAt === undefined && !session.deleted && at < session.expiresAt;
  const isIdle = ({ lastUsedAt }: ModelSession, at: number) =>
    lifetimes.sessionIdleTtlMs !== undefined && at >= lastUsedAt + lifetimes.sessionIdleTtlMs;

  function end(one: UnderWay, session: ModelSession): void {
    session.endedAt = one.at;
    one.touched.push(session);
  }
  const endAll = (one: UnderWay) => {
    for (const session of sessions) if (isLiving(session, one.at)) end(one, session);
  };

  return {
    sessions,
    user,
    counts,
    isLiving,

    loggedIn(one: UnderWay, password: string): void {
      if (one.expected) return; // a refusal that was decided on already is put on record
      const { at } = one;
      const isRight = one.userEnabled && one.credential?.password === password;
      if (!isRight || !user.enabled || one.credential?.version !== user.version) {
        counts.login_failed += 1;
        one.expected = { problem: 'credentials_invalid' };
        return;
      }
      const session: ModelSession = {
        id: one.newSessionId ?? '',
        createdAt: at,
        expiresAt: at + lifetimes.refreshTokenTtlMs,
        texts: [],
        current: 0,
        rotatedAt: at,
        lastUsedAt: at,
        sealed: false,
        endedAt: undefined,
        toldEnded: false,
        deleted: false,
      };
      const others = sessions
        .filter((other) => isLiving(other, at))
        .toSorted((a, b) => b.createdAt - a.createdAt || (a.id < b.id ? 1 : -1));
      for (const oldest of others.slice(lifetimes.sessionsPerUser - 1)) end(one, oldest);
      sessions.push(session);
      counts.login += 1;
      one.expected = { session, index: 0 };
    },

    refreshed(one: UnderWay, session: ModelSession, index: number): void {
      const { at } = one;
      if (session.endedAt !== undefined || session.deleted || !user.enabled) {
        one.touched.push(session);
        one.expected = { problem: 'token_revoked' };
      } else if (at >= session.expiresAt || isIdle(session, at)) {
        one.expected = { problem: 'token_expired' };
      } else if (index === session.current) {
        Object.assign(session, { current: index + 1, rotatedAt: at, lastUsedAt: at, sealed: lifetimes.refreshGraceMs > 0 });
        one.expected = { session, index: index + 1 };
      } else if (index === session.current - 1 && session.sealed && at < session.rotatedAt + lifetimes.refreshGraceMs) {
        one.expected = { session, index: session.current };
      } else {
        end(one, session);
        counts.refresh_replayed += 1;
        one.expected = { problem: 'token_revoked' };
      }
    },

    loggedOut(one: UnderWay, session: ModelSession): void {
      if (isLiving(session, one.at)) counts.logout += 1;
      if (isLiving(session, one.at)) end(one, session);
      one.touched.push(session);
      one.expected = 'done';
    },

    ended(one: UnderWay, session: ModelSession): void {
      one.expected = isLiving(session, one.at) ? 'done' : { problem: 'session_unknown' };
      if (isLiving(session, one.at)) end(one, session);
    },

    changed(one: UnderWay): void {
      one.expected = 'done';
      if (one.act.do === 'enable') return void (user.enabled = true);
      if (one.act.do === 'disable') user.enabled = false;
      if (one.act.do === 'set password')
        Object.assign(user, { version: user.version + 1, former: user.password, password: `password ${user.version}` });
      endAll(one);
    },

    sealsCleared(at: number): void {
      for (const session of sessions) if (session.rotatedAt <= at - lifetimes.refreshGraceMs) session.sealed = false;
    },

    houseKept(at: number): void {
      for (const session of sessions) if (Math.min(session.expiresAt, session.endedAt ?? Infinity) <= at - keptMs) session.deleted = true;
    },
  };
}

async function live(
  file: string,
  lifetimes: Lifetimes,
  scheduler: fc.Scheduler,
  plan: readonly { readonly acts: readonly Act[]; readonly elsewhere: boolean }[],
): Promise<void> {
  const clock = manualClock();
  const model = makeModel(lifetimes);
  const issued: { text: string; session: ModelSession; index: number }[] = [];
  const access: { text: string; session: ModelSession; expiresAt: number }[] = [];
  let house = await openHouse(file, clock, lifetimes);

  try {
    for (const { acts, elsewhere } of plan) {
      const [only] = acts;
      if (acts.length === 1 && only?.do === 'restart') {
        await house.close();
        house = await openHouse(file, clock, lifetimes);
      } else if (acts.length === 1 && only && elsewhere) {
        const cli = await openHouse(file, clock, lifetimes);
        await scheduler.waitFor(underWay(only, cli.services));
        await cli.close();
      } else {
        await scheduler.waitFor(Promise.all(acts.map((act) => underWay(act, house.services))));
      }
      await new Promise((next) => setImmediate(next)); // what another process wrote is seen in the next turn
      await lookAtEverything();
    }
    await lookAtRecords();
  } finally {
    await house.close();
  }

  /** Does one act through the real flow, tells the model of its commits, and compares the answers. */
  async function underWay(act: Act, services: Services): Promise<void> {
    const one: UnderWay = { act, at: 0, touched: [] };
    const back = <T>(from: readonly T[]): T | undefined =>
      'pick' in act ? from.at(-1 - (act.pick % Math.max(1, from.length))) : undefined;

    switch (act.do) {
      case 'wait':
        await scheduler.schedule(Promise.resolve());
        return clock.advance(act.ms);
      case 'restart':
        return;
      case 'clear seals':
      case 'keep house':
        await scheduler.schedule(Promise.resolve());
        return services.together(async (stores) => {
          const at = clock.now();
          await (act.do === 'clear seals' ? clearSeals({ ...services, ...stores }) : keepHouse({ ...services, ...stores }, keptMs * 1_000));
          if (act.do === 'clear seals') model.sealsCleared(at);
          else model.houseKept(at);
        });
      case 'login': {
        const password = { current: model.user.password, former: model.user.former, wrong: 'wrong' }[act.password];
        return check(
          one,
          await settled(
            login(
              seenBy(one, services, () => model.loggedIn(one, password)),
              { username: 'ANNA', password },
              origin,
            ),
          ),
        );
      }
      case 'refresh': {
        const token = back(issued);
        return (
          token &&
          check(
            one,
            await settled(
              refresh(
                seenBy(one, services, () => model.refreshed(one, token.session, token.index)),
                token.text,
                origin,
              ),
            ),
          )
        );
      }
      case 'logout by refresh': {
        const token = back(issued);
        return (
          token &&
          check(
            one,
            await settled(
              logoutByRefreshToken(
                seenBy(one, services, () => model.loggedOut(one, token.session)),
                token.text,
                origin,
              ),
            ),
          )
        );
      }
      case 'ask': {
        const token = back(access);
        return token && void (await ask(token));
      }
      case 'logout by access': {
        const token = back(access);
        if (!token || (await ask(token)) !== 'welcome') return;
        return check(
          one,
          await settled(
            logout(
              seenBy(one, services, () => model.loggedOut(one, token.session)),
              { sessionId: token.session.id },
              origin,
            ),
          ),
        );
      }
      case 'end': {
        const session = back(model.sessions);
        return (
          session &&
          check(
            one,
            await settled(
              endSession(
                seenBy(one, services, () => model.ended(one, session)),
                session.id,
              ),
            ),
          )
        );
      }
      case 'end all':
        return check(
          one,
          await settled(
            endSessionsOf(
              seenBy(one, services, () => model.changed(one)),
              'anna',
            ),
          ),
        );
      case 'disable':
        return check(
          one,
          await settled(
            disableUser(
              seenBy(one, services, () => model.changed(one)),
              'anna',
            ),
          ),
        );
      case 'enable':
        return check(
          one,
          await settled(
            enableUser(
              seenBy(one, services, () => model.changed(one)),
              'anna',
            ),
          ),
        );
      case 'set password': {
        // Which password it sets is known at the commit, so that each is new.
        const on = seenBy(one, services, () => model.changed(one));
        const together: Services['together'] = (work) =>
          on.together((stores) =>
            work({
              ...stores,
              credentials: {
                ...stores.credentials,
                setPassword: (userId, _hash, at) => stores.credentials.setPassword(userId, `hash of password ${model.user.version}`, at),
              },
            }),
          );
        return check(one, await settled(setPassword({ ...on, together }, 'anna', 'password')));
      }
    }
  }

  /** The services as one act has them: each step waits until the scheduler lets it go on, and what it sees is noted. */
  function seenBy(one: UnderWay, services: Services, committed: () => void): Services {
    const turn = () => scheduler.schedule(Promise.resolve());
    return {
      ...services,
      clock: { now: () => (one.at = services.clock.now()) },
      users: {
        ...services.users,
        async findByName(name) {
          await turn();
          const user = await services.users.findByName(name);
          one.userEnabled = user?.disabledAt === undefined;
          return user;
        },
      },
      credentials: {
        ...services.credentials,
        async findPassword(userId) {
          await turn();
          const credential = await services.credentials.findPassword(userId);
          if (credential) one.credential = { version: credential.version, password: credential.passwordHash.replace('hash of ', '') };
          return credential;
        },
      },
      passwords: {
        ...services.passwords,
        hash: async (password) => (await turn(), services.passwords.hash(password)),
        async verify(password, hash) {
          const isRight = await services.passwords.verify(password, hash);
          await turn();
          return isRight;
        },
      },
      async together(work) {
        await turn();
        return services.together(async (stores) => {
          const add: typeof stores.sessions.add = (session, version) => {
            one.newSessionId = session.id;
            return stores.sessions.add(session, version);
          };
          // How often one may try is the model of guessing.test.ts; here everyone may, and it is no commit of a session's.
          let isGuess = false;
          const take: typeof stores.guesses.take = async ({ key }, at) => ((isGuess = true), { key, at });
          const guesses = { ...stores.guesses, take, giveBack: async () => {} };
          const result = await work({ ...stores, sessions: { ...stores.sessions, add }, guesses });
          if (!isGuess) committed();
          return result;
        });
      },
    };
  }

  function check(one: UnderWay, answer: unknown): void {
    for (const session of one.touched) session.toldEnded ||= session.endedAt !== undefined;
    const { expected } = one;
    if (expected === undefined) throw new Error(`${one.act.do} committed nothing: ${String(answer)}`);
    if (expected === 'done') return assert.ok(!(answer instanceof Problem), `${one.act.do}: ${String(answer)}`);
    if ('problem' in expected) return assert.equal(answer instanceof Problem ? answer.code : 'welcome', expected.problem, one.act.do);
    if (answer instanceof Problem) assert.fail(`${one.act.do}: ${String(answer)}`);

    const { session, index } = expected;
    const { accessToken, refreshToken } = answer as Tokens; // a login's or a refresh's
    session.texts[index] ??= refreshToken;
    assert.equal(refreshToken, session.texts[index], 'R2: the same successor');
    issued.push({ text: refreshToken, session, index });
    access.push({ text: accessToken, session, expiresAt: Math.floor(Math.min(one.at + accessTtlMs, session.expiresAt) / 1_000) * 1_000 });
  }

  /** As the gates do. Whoever asks while an act is under way may still pass, but not once anyone has been told of the end. */
  async function ask({ text, session, expiresAt }: (typeof access)[number]): Promise<string> {
    const { toldEnded } = session;
    const found = await house.ask(text);
    if (expiresAt <= clock.now()) assert.equal(found, 'token_expired');
    else if (found === 'welcome') assert.ok(!toldEnded, 'R4: an ended session was believed');
    else assert.ok(found === 'token_revoked' && session.endedAt !== undefined, `${found}: a living session was not believed`);
    return found;
  }

  /** Nothing is under way: model and store must agree to the letter. */
  async function lookAtEverything(): Promise<void> {
    const now = clock.now();
    for (const session of model.sessions) session.toldEnded ||= session.endedAt !== undefined;
    for (const token of access) await ask(token);
    for (const session of model.sessions) {
      const row = await house.services.sessions.find(session.id);
      if (session.deleted) assert.equal(row, undefined);
      else
        assert.deepEqual(
          [row?.generation, row?.endedAt !== undefined, row?.expiresAt, row?.lastUsedAt],
          [session.current, session.endedAt !== undefined, session.expiresAt, session.lastUsedAt],
          'R1, R5',
        );
    }
    const living = await house.services.sessions.listLive({ at: now, limit: 100 });
    assert.deepEqual(
      new Set(living.map(({ id }) => id)),
      new Set(model.sessions.filter((session) => model.isLiving(session, now)).map(({ id }) => id)),
    );
    assert.ok(living.length <= lifetimes.sessionsPerUser, 'a user has at most so many');
    assert.ok(model.user.enabled || living.length === 0, 'a disabled user has none');
  }

  async function lookAtRecords(): Promise<void> {
    for (const [action, count] of Object.entries(model.counts)) {
      const rows = await house.services.audit.list({ limit: 10_000, action: action as keyof typeof model.counts }); // the keys of that object
      assert.equal(
        rows.reduce((sum, row) => sum + row.count, 0),
        count,
        `on record: ${action}`,
      );
    }
  }
}

const origin = { address: '192.0.2.1', block: '192.0.2.1', requestId: 'request', userAgent: 'test' } as const;

const settled = <T>(work: Promise<T>): Promise<T | Problem<string>> =>
  work.catch((error: unknown) => {
    if (error instanceof Problem) return error;
    throw error;
  });

/** The real store and services of one process; only hashing passwords is made cheap. */
async function openHouse(file: string, clock: Clock, lifetimes: Lifetimes) {
  const store = sqliteStore(file);
  await store.migrate();
  const ring = keyRing({ keys: store.keys, clock, secrets: ['secret'] });
  await ring.load();
  const { changedElsewhere = () => true } = store;
  const revoked = revokedSessions({ sessions: store.sessions, clock, changedElsewhere });
  await revoked.load();
  const tokens = accessTokens({ issuer: 'https://localhost', audience: 'test', keys: ring, clock });
  const services: Services = {
    users: store.users,
    credentials: store.credentials,
    sessions: store.sessions,
    keys: store.keys,
    audit: store.audit,
    guesses: store.guesses,
    together: store.together,
    clock,
    lifetimes,
    revoked,
    keyRing: ring,
    passwords: {
      hash: async (password) => `hash of ${password}`,
      verify: async (password, hash) => hash === `hash of ${password}`,
      assertRoom: () => {},
    },
    checkNewPassword: () => {},
    refreshTokens: refreshTokens(['secret']),
    csrfTokens: csrfTokens(['secret']),
    accessTokens: accessTokenMint({ keyRing: ring, clock, issuer: 'https://localhost', audience: 'test', ttlMs: accessTtlMs }),
    guessPlaces: guessPlaces('secret'),
    guessTurns: guessTurns(),
    deviceTokens: deviceTokens(['secret']),
    sprayWatch: sprayWatch({ clock }),
  };
  return {
    services,
    close: () => store.close(),
    async ask(text: string): Promise<string> {
      try {
        const { sessionId } = await tokens.read(text);
        return (await revoked.isRevoked(sessionId)) ? 'token_revoked' : 'welcome';
      } catch (error) {
        if (error instanceof Problem) return error.code;
        throw error;
      }
    },
  };
}
