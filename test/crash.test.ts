import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { suite, test } from 'node:test';
import { demoUser, folderFor, logIn, type Program, runCommand, startProgram, wideLimits } from './support/program.ts';

/** A port is drawn anew at each start; the issuer must not change with it. */
const settings = { ...wideLimits, SESSIONS_PER_USER: '10000', ISSUER: 'https://localhost' };

/** What a client knows of its session: only what was answered. */
type Known = {
  readonly access: string[];
  /** The chain, as far as it was answered. */
  readonly refresh: string[];
  state: 'living' | 'ended';
  /** What was asked and never answered: it may have happened or not. */
  unanswered: 'refresh' | 'logout' | undefined;
};

suite('kill -9', () => {
  for (const [kind, grace, rounds] of [
    ['with a grace', '5 minutes', 10],
    ['strict', '0', 5],
  ] as const) {
    test(`in mid-load, ${rounds} times on one folder, ${kind}: what was answered holds`, { timeout: 60_000 }, async (t) => {
      const folder = folderFor(t);
      const start = () => startProgram(t, { folder, settings: { ...settings, REFRESH_GRACE: grace } });
      const all: Known[] = [];
      let program = await start();
      for (let round = 0; round < rounds; round += 1) {
        const known: Known[] = [];
        const acted = killer(program, 20 + Math.floor(Math.random() * 60));
        const { device } = await logIn(program); // a new one each round: what was in flight when it was killed stays counted
        await Promise.all(Array.from({ length: 8 }, () => useUntilDead(program, device, known, acted)));
        assert.equal(await program.stop(), 'SIGKILL');

        program = await start();
        assert.equal((await program.ask('GET', '/readyz')).status, 200);
        assert.deepEqual(integrity(folder), ['ok']);
        for (const session of known) await holds(program, session, grace === '0');
        all.push(...known);
      }
      for (const session of all) await hasEnded(program, session);
      assert.ok(all.length > rounds, `only ${all.length} sessions`);
    });
  }

  test('a second server on the same folder ends with 2 and a reason, and changes nothing; kill -9 frees the folder', async (t) => {
    const folder = folderFor(t);
    const program = await startProgram(t, { folder, settings });
    const { json } = await program.ask('POST', '/login', { json: demoUser });
    const before = contents(folder);
    const second = await runCommand(['dev'], {
      env: { PORTCULLIS_DATA_DIR: folder, PORTCULLIS_PORT: '0', PORTCULLIS_ADMIN_LISTEN: 'none' },
    });
    assert.equal(second.code, 2);
    assert.match(second.stderr, /another server has the store/);
    assert.equal(second.stderr.trim().split('\n').length, 1);
    assert.deepEqual(contents(folder), before);
    assert.equal((await program.ask('GET', '/protected', { bearer: json.access_token })).status, 200);

    await program.stop('SIGKILL');
    const third = await startProgram(t, { folder, settings });
    assert.equal((await third.ask('GET', '/protected', { bearer: json.access_token })).status, 200);
  });
});

/** To be called at each act: so many, and a moment more, and the program is dead. */
function killer(program: Program, acts: number): () => void {
  let left = acts;
  return () => {
    left -= 1;
    if (left === 0) setTimeout(() => void program.stop('SIGKILL'), Math.random() * 30);
  };
}

/** One client: logs in, refreshes, logs out, again and again; writes down what was answered. */
async function useUntilDead(program: Program, device: string, known: Known[], acted: () => void): Promise<void> {
  try {
    for (;;) {
      const { status, json } = await program.ask('POST', '/login', { json: { ...demoUser, device_token: device } });
      assert.equal(status, 200);
      const session: Known = { access: [json.access_token], refresh: [json.refresh_token], state: 'living', unanswered: undefined };
      known.push(session);
      acted();
      for (let i = Math.floor(Math.random() * 6); i > 0; i -= 1, acted()) await refresh(program, session);
      if (Math.random() < 0.6) await logOut(program, session);
    }
  } catch (error) {
    if (!isGone(error)) throw error;
  }
}

async function refresh(program: Program, session: Known): Promise<void> {
  session.unanswered = 'refresh';
  const { status, json, text } = await program.ask('POST', '/refresh', { bearer: session.refresh.at(-1) ?? '' });
  session.unanswered = undefined;
  assert.equal(status, 200, text);
  session.access.push(json.access_token);
  session.refresh.push(json.refresh_token);
}

async function logOut(program: Program, session: Known): Promise<void> {
  const [access, token] = [session.access.at(-1) ?? '', session.refresh.at(-1)];
  session.unanswered = 'logout';
  const { status, text } = await program.ask(
    'POST',
    '/logout',
    Math.random() < 0.5 ? { bearer: access } : { json: { refresh_token: token } },
  );
  session.unanswered = undefined;
  assert.equal(status, 200, text);
  session.state = 'ended';
}

const isGone = (error: unknown): boolean => ['ECONNRESET', 'ECONNREFUSED', 'EPIPE'].includes(String(Object(error).code));

/** Asks a restarted server about one session; afterwards the session has ended, one way or another. */
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

function integrity(folder: string): unknown[] {
  const db = new DatabaseSync(join(folder, 'portcullis.db'), { readOnly: true });
  try {
    return db
      .prepare('PRAGMA integrity_check')
      .all()
      .map((row) => Object.values(row)[0]);
  } finally {
    db.close();
  }
}

/** What is shared memory of the moment is left out. */
const contents = (folder: string): Record<string, string> =>
  Object.fromEntries(
    readdirSync(folder)
      .filter((name) => !name.endsWith('-shm'))
      .map((name) => [
        name,
        createHash('sha256')
          .update(readFileSync(join(folder, name)))
          .digest('hex'),
      ]),
  );
