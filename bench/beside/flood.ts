import assert from 'node:assert/strict';
import type { BesideLine } from '../beside-line.ts';
import { median } from '../scale/measure.ts';
import { type Ending, folderFor, logIn, type Program, startProgram, wideLimits } from '../../test/support/program.ts';
import { requestOf, type Send, startSender, to } from './send.ts';
import { spread } from './spread.ts';

const RUNS = 5;
const QUIET_MS = 2_500;
const LINES = 32;
/** So few a second that they are no load. */
const GOOD_RATE = 200;
const FLOODER = '127.0.0.2';

/**
 * What good callers feel while somebody floods, by each kind of refusal that an attacker can have: sent at half of what the
 * server can refuse of it, from an address whose limits are wide but for the one that is to be met, as if from many addresses.
 */
export async function floodLines(until: Ending, tell: (text: string) => void): Promise<BesideLine[]> {
  const limits = { LOGOUT_LIMITS: '1 per hour by ip' };
  const program = await startProgram(until, { folder: folderFor(until), settings: { ...wideLimits, ...limits } });
  const kinds = await kindsOf(program);
  const [good, flood] = [startSender(until), startSender(until)];
  const callers = {
    ...to(program),
    request: requestOf('GET', '/protected', bearer((await logIn(program)).access)),
    lines: 8,
    rate: GOOD_RATE,
  };
  const calm = async (): Promise<number> => {
    const sent = await good({ ...callers, forMs: QUIET_MS });
    assert.deepEqual(Object.keys(sent.statuses), ['200']);
    return sent.p99Ms;
  };
  await calm();

  const rates = new Map<string, number>();
  for (const { name, request, status } of kinds) rates.set(name, await capacity(flood, program, request, status));
  const quiet: number[] = [];
  const felt = new Map<string, number[]>(kinds.map(({ name }) => [name, []]));
  const busiest = new Map<string, number>();
  for (let run = 0; run < RUNS; run++) {
    tell(`floods, run ${run + 1} of ${RUNS}`);
    quiet.push(await calm());
    for (const { name, request } of kinds) {
      const order = { ...to(program), from: FLOODER, request, lines: LINES, rate: (rates.get(name) ?? 0) / 2, forMs: QUIET_MS + 300 };
      const flooded = flood(order);
      await new Promise((next) => setTimeout(next, 150));
      felt.get(name)?.push(await calm());
      busiest.set(name, Math.max(busiest.get(name) ?? 0, (await flooded).busy));
    }
  }
  await program.stop();
  const bar = Math.max(2 * median(quiet), 10);
  return [
    spread('p99 of good callers, quiet', 'ms', quiet, { note: `${GOOD_RATE} a second, each from the time it was due` }),
    ...kinds.map(({ name }) => {
      const note = `${Math.round((rates.get(name) ?? 0) / 2)} a second; its sender at most ${Math.round((busiest.get(name) ?? 0) * 100)} % busy`;
      return spread(`p99 of good callers in a flood: ${name}`, 'ms', felt.get(name) ?? [], { bar, note });
    }),
  ];
}

type Kind = { readonly name: string; readonly request: string; readonly status: number };

async function kindsOf(program: Program): Promise<readonly Kind[]> {
  const [{ access }, ended] = [await logIn(program), await logIn(program)];
  assert.equal((await program.ask('POST', '/logout', { bearer: ended.access, from: FLOODER })).status, 200); // its one of an hour
  const tampered = access.slice(0, -20) + access.slice(-20).split('').toReversed().join('').replace(/.$/, 'A');
  return [
    { name: 'no token', request: requestOf('GET', '/protected'), status: 401 },
    { name: 'bad signature', request: requestOf('GET', '/protected', bearer(tampered)), status: 401 },
    { name: 'over the limit', request: requestOf('POST', '/logout', bearer(access)), status: 429 },
    { name: 'revoked', request: requestOf('GET', '/protected', bearer(ended.access)), status: 401 },
  ];
}

/** How many a second the server answers when all lines ask all the time; half of that is sent later. */
async function capacity(flood: Send, program: Program, request: string, status: number): Promise<number> {
  const order = { ...to(program), from: FLOODER, request, lines: LINES };
  await flood({ ...order, forMs: 500 });
  const { perSecond, statuses } = await flood({ ...order, forMs: 1_500 });
  assert.deepEqual(Object.keys(statuses), [String(status)]);
  return perSecond;
}

const bearer = (token: string) => ({ authorization: `Bearer ${token}` });
