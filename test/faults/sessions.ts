import assert from 'node:assert/strict';
import { setTimeout as wait } from 'node:timers/promises';
import { alice } from '../support/cluster.ts';
import { type Answer, type Ask, logIn, type Program } from '../support/program.ts';
import type { Findings } from './fault.ts';

/** What a client knows of its session: only what was answered. */
type Known = {
  readonly access: string[];
  /** The chain, as far as it was answered. */
  readonly refresh: string[];
  state: 'living' | 'ended';
  /** What was asked and never answered with a 200: it may have happened or not. */
  unanswered: 'refresh' | 'logout' | undefined;
};

type Who = { readonly username: string; readonly password: string };

export type Load = {
  readonly ended: Promise<unknown>;
  /** Tells them, and waits until they have heard their last answers. */
  end(): Promise<unknown>;
};

/** Clients that use sessions while something breaks, and hold the server to whatever it has answered. */
export type Sessions = {
  /** Begins with some at once. @param how.mayGo whether the program may be gone: that ends them, too. */
  begin(programs: readonly Program[], how?: { mayGo?: boolean; acted?: () => void }): Promise<Load>;
  /** Asks about each session that was used since this was last asked; they have ended afterwards. */
  check(program: Program): Promise<void>;
  /** Asks about all of them, which have all been checked: none lives. */
  checkEnded(program: Program): Promise<void>;
};

const CLIENTS = 8;

/**
 * @param on.isStrict whether the servers have no grace for a refresh token that was used.
 * Found wrong: an answer that is neither 200 nor 503 with `Retry-After`, an ended session that is believed, a living one
 * that is not, and what was answered and does not hold.
 */
export function sessionsOf(who: Who, on: { found: Findings; isStrict?: boolean }): Sessions {
  const all: Known[] = [];
  let fresh: Known[] = [];
  const { found } = on;

  /** The answer if it is a 200; whatever else is 503, or wrong. */
  async function ask(program: Program, path: string, asked: Ask, mayGo: boolean, method = 'POST'): Promise<Answer | 'away' | 'gone'> {
    try {
      const answer = await program.ask(method, path, asked);
      found.add('answers');
      if (answer.status === 200) return answer;
      found.add('503');
      if (!isAway(answer)) found.wrong(`${method} ${path}: ${answer.status} ${answer.text}`);
      return answer.json?.code === 'revocation_pending' ? answer : 'away';
    } catch (error) {
      if (!mayGo || !isGone(error)) found.wrong(`${method} ${path}: ${String(error)}`);
      return 'gone';
    }
  }

  async function useOne(programs: readonly Program[], device: string, over: AbortSignal, mayGo: boolean, acted: () => void): Promise<void> {
    const any = (): Program => programs[Math.floor(Math.random() * programs.length)]!;
    while (!over.aborted) {
      const login = await ask(any(), '/login', { json: { ...who, device_token: device } }, mayGo);
      if (login === 'gone') return;
      if (login === 'away') {
        await wait(20);
        continue;
      }
      const { json } = login;
      const session: Known = { access: [json.access_token], refresh: [json.refresh_token], state: 'living', unanswered: undefined };
      fresh.push(session);
      acted();
      for (let i = Math.floor(Math.random() * 6); i > 0 && session.unanswered === undefined; i -= 1, acted()) {
        const used = await ask(any(), '/protected', { bearer: session.access.at(-1) ?? '' }, mayGo, 'GET');
        if (used === 'gone') return;
        await refresh(any(), session, mayGo);
      }
      if (session.unanswered === undefined && Math.random() < 0.6) await logOut(any(), session, mayGo);
      if (session.state === 'ended') await stayEnded(any(), session, mayGo);
    }
  }

  async function refresh(program: Program, session: Known, mayGo: boolean): Promise<void> {
    session.unanswered = 'refresh';
    const answer = await ask(program, '/refresh', { bearer: session.refresh.at(-1) ?? '' }, mayGo);
    if (answer === 'away' || answer === 'gone') return;
    session.unanswered = undefined;
    session.access.push(answer.json.access_token);
    session.refresh.push(answer.json.refresh_token);
  }

  async function logOut(program: Program, session: Known, mayGo: boolean): Promise<void> {
    const [access, token] = [session.access.at(-1) ?? '', session.refresh.at(-1)];
    session.unanswered = 'logout';
    const answer = await ask(program, '/logout', Math.random() < 0.5 ? { bearer: access } : { json: { refresh_token: token } }, mayGo);
    if (answer === 'away' || answer === 'gone') return;
    if (answer.status === 503) found.add('pending logouts'); // it has ended for good; that all have heard of it is not promised
    else session.unanswered = undefined;
    session.state = 'ended';
  }

  async function stayEnded(program: Program, session: Known, mayGo: boolean): Promise<void> {
    if (session.unanswered !== undefined) return;
    const asked = program.ask('GET', '/protected', { bearer: session.access.at(-1) ?? '' });
    const answer = await asked.catch((error: unknown) => {
      if (!mayGo || !isGone(error)) found.wrong(`GET /protected: ${String(error)}`);
    });
    if (!answer) return;
    found.add('ended sessions tried');
    if (answer.json?.code !== 'token_revoked' && !isAway(answer)) found.wrong(`an ended session: ${answer.status} ${answer.text}`);
  }

  return {
    async begin(programs, { mayGo = false, acted = () => {} } = {}) {
      // A device each, new each time: a login that was in flight when something broke stays counted against its device.
      const devices: string[] = [];
      for (let i = 0; i < CLIENTS; i += 1) devices.push((await logIn(programs[0]!, who)).device);
      const over = new AbortController();
      const ended = Promise.all(devices.map((device) => useOne(programs, device, over.signal, mayGo, acted)));
      return {
        ended,
        end() {
          over.abort();
          return ended;
        },
      };
    },
    async check(program) {
      found.add('sessions', fresh.length);
      for (const session of fresh) await found.check('after', () => holds(program, session, on.isStrict ?? false));
      all.push(...fresh);
      fresh = [];
    },
    async checkEnded(program) {
      for (const session of all) await found.check('at the end', () => hasEnded(program, session));
    },
  };
}

const isAway = ({ status, headers }: Answer): boolean => status === 503 && /^\d+$/.test(String(headers['retry-after']));
const isGone = (error: unknown): boolean => ['ECONNRESET', 'ECONNREFUSED', 'EPIPE'].includes(String(Object(error).code));

/** Asks about one session; afterwards it has ended, one way or another. */
async function holds(program: Program, session: Known, isStrict: boolean): Promise<void> {
  if (session.state === 'ended') return hasEnded(program, session);
  session.state = 'ended';
  const [beforeLast, last] = [session.refresh.at(-2), session.refresh.at(-1)];
  if (session.unanswered === 'logout' && (await useAccess(program, session)) !== 'welcome') return hasEnded(program, session);
  assert.equal(await useAccess(program, session), 'welcome', 'a login that was answered is lost');

  if (!isStrict && beforeLast && session.unanswered === undefined)
    assert.deepEqual(await useRefresh(program, beforeLast), { next: last }, 'within the grace: the same successor');
  const answer = await useRefresh(program, last);
  if (isStrict && session.unanswered === 'refresh' && 'code' in answer) return hasEnded(program, session); // it had been used, after all, and this was a replay
  assert.ok('next' in answer, `the last refresh token that was answered is lost: ${JSON.stringify(answer)}`);
  assert.ok(answer.next !== undefined && !session.refresh.includes(answer.next));
  if (!isStrict) assert.deepEqual(await useRefresh(program, last), answer);

  const further = await useRefresh(program, answer.next);
  assert.ok('next' in further);
  assert.deepEqual(await useRefresh(program, beforeLast ?? last), { code: 'token_revoked' }, 'a used refresh token works again');
  assert.deepEqual(await useRefresh(program, further.next), { code: 'token_revoked' });
  await hasEnded(program, session);
}

async function hasEnded(program: Program, session: Known): Promise<void> {
  assert.equal(await useAccess(program, session), 'token_revoked');
  for (const token of session.refresh.slice(-2)) assert.deepEqual(await useRefresh(program, token), { code: 'token_revoked' });
}

async function useAccess(program: Program, { access }: Known): Promise<unknown> {
  const codes = await Promise.all(
    access.map(async (bearer) => (await program.ask('GET', '/protected', { bearer })).json.code ?? 'welcome'),
  );
  assert.equal(new Set(codes).size, 1, `one session, many answers: ${codes.join()}`);
  return codes[0];
}

async function useRefresh(program: Program, token = ''): Promise<{ next: string } | { code: unknown }> {
  const { status, json } = await program.ask('POST', '/refresh', { bearer: token });
  return status === 200 ? { next: String(json.refresh_token) } : { code: json.code };
}

/** A session that lives and one that has ended, as their access tokens. */
export async function livingAndEnded(program: Program, where: Program = program): Promise<{ living: string; ended: string }> {
  const [living, ended] = [(await logIn(program, alice)).access, (await logIn(program, alice)).access];
  const { status, text } = await where.ask('POST', '/logout', { bearer: ended });
  if (status !== 200) throw new Error(`logout: ${status} ${text}`);
  return { living, ended };
}
