import { setTimeout as wait } from 'node:timers/promises';
import { alice, openCluster } from '../support/cluster.ts';
import { wallClock } from '../support/faketime.ts';
import { type Answer, demoUser, folderFor, logIn, type Program, startProgram, wideLimits } from '../support/program.ts';
import { findings, type Findings, type Scene, type Seen } from './fault.ts';
import { freshAddress } from './limits.ts';

const HOUR_S = 3_600;
const WINDOW_S = 2;
const LIMIT = 4;
/** The shortest life that can be set. */
const TTL_S = 10;
const settings = { PROTECTED_LIMITS: `${LIMIT} per ${WINDOW_S} seconds by ip`, ACCESS_TOKEN_TTL: `${TTL_S} s` };

/**
 * The wall clock of a server is set back an hour, stands still, and is set forward an hour, while it runs and between two
 * starts: no token lives longer for it, and no limit goes below nothing or refuses for longer than a window.
 */
export async function clockMoves(t: Scene, rounds: number, store: 'sqlite' | 'postgres'): Promise<Seen> {
  const found = findings();
  const clock = wallClock(t);
  const { start, who } = store === 'sqlite' ? onSqlite(t, clock.env) : await onPostgres(t, clock.env);
  for (let round = 0; round < rounds; round += 1) {
    clock.shift(0);
    let program = await start();
    const outlives = async (what: string, access: string, since: number): Promise<void> => {
      await wait(Math.max(0, since + (TTL_S + 1.2) * 1_000 - performance.now())); // whole seconds are in a token
      refusedAs(await askFrom(program, access, freshAddress()), ['token_expired'], found, `${what}, after its life`);
    };

    // Set back, then frozen, in the life of one token.
    const { access: first } = await logIn(program, who);
    const firstAt = performance.now();
    clock.shift(-HOUR_S);
    await limitHolds(program, first, found, 'set back an hour');
    const { access: second } = await logIn(program, who);
    const secondAt = performance.now();
    clock.freeze(Date.now() - HOUR_S * 1_000);
    await limitHolds(program, second, found, 'standing still');
    await outlives('a token of before the clock was set back', first, firstAt);
    await outlives('a token of when it was an hour behind', second, secondAt);

    // Stopped and started with a clock an hour behind what it was: what had expired does not come to life.
    await program.stop();
    clock.shift(-HOUR_S);
    program = await start();
    for (const token of [first, second])
      refusedAs(
        await askFrom(program, token, freshAddress()),
        ['token_expired', 'token_invalid', 'token_key_gone'],
        found,
        'an expired token, after a start with a clock that is behind',
      );

    // Set forward under way. Where the database's time counts, it changes nothing, also once the instance has asked for that again.
    clock.shift(0);
    await wait(50);
    const { access: third } = await logIn(program, who);
    clock.shift(HOUR_S);
    if (store === 'postgres') await wait(WINDOW_S * 1_000);
    const later = await askFrom(program, third, freshAddress());
    if (store === 'sqlite') refusedAs(later, ['token_expired'], found, 'an hour later by the clock');
    else if (later.status !== 200) found.wrong(`the clock is an hour ahead: ${later.status} ${later.text}`);
    const { access: fourth } = await logIn(program, who);
    await limitHolds(program, fourth, found, 'set forward an hour');
    clock.shift(0);
    await limitHolds(program, (await logIn(program, who)).access, found, 'and back again');
    await program.stop();

    clock.shift(HOUR_S);
    program = await start();
    clock.shift(0);
    await limitHolds(program, (await logIn(program, who)).access, found, 'started an hour ahead');
    await program.stop();
    found.add('clocks set', 8);
    t.progress?.(round + 1, rounds);
  }
  return found.seen();
}

function refusedAs(answer: Answer, codes: readonly string[], found: Findings, what: string): void {
  if (answer.status !== 401 || !codes.includes(answer.json?.code)) found.wrong(`${what}: ${answer.status} ${answer.text}`);
}

/** From rest exactly N, what is left is counted down to nothing, and who waits as long as he is told is let in. */
async function limitHolds(program: Program, access: string, found: Findings, when: string): Promise<void> {
  const from = freshAddress();
  for (let i = 0; i < LIMIT; i += 1) {
    const { status, headers, text } = await askFrom(program, access, from);
    if (status !== 200) return found.wrong(`${when}, request ${i + 1} of ${LIMIT}: ${status} ${text}`);
    const left = Number(/;r=(-?\d+)/.exec(String(headers.ratelimit))?.[1]);
    if (!(left >= 0 && left < LIMIT)) found.wrong(`${when}: ${left} left of ${LIMIT}`);
  }
  const refused = await askFrom(program, access, from);
  const waitS = Number(refused.headers['retry-after']);
  if (refused.status !== 429) found.wrong(`${when}, one beyond the limit: ${refused.status} ${refused.text}`);
  else if (!(waitS > 0 && waitS <= WINDOW_S)) found.wrong(`${when}: told to wait ${waitS} s`);
  await wait(waitS * 1_000 + 20);
  const admitted = await askFrom(program, access, from);
  if (admitted.status !== 200) found.wrong(`${when}, after the wait: ${admitted.status} ${admitted.text}`);
}

const askFrom = (program: Program, bearer: string, from: string): Promise<Answer> => program.ask('GET', '/protected', { bearer, from });

function onSqlite(t: Scene, env: Record<string, string>) {
  const folder = folderFor(t);
  const own = { ...wideLimits, ...settings, ISSUER: 'https://localhost' };
  return { who: demoUser, start: () => startProgram(t, { folder, settings: own, env }) };
}

async function onPostgres(t: Scene, env: Record<string, string>) {
  const cluster = await openCluster(t, settings);
  await cluster.addAlice();
  return { who: alice, start: () => cluster.start('one', { env }) };
}
