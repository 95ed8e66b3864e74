import assert from 'node:assert/strict';
import type { BesideLine } from '../beside-line.ts';
import { median } from '../scale/measure.ts';
import { demoUser, type Ending, folderFor, logIn, startProgram, wideLimits } from '../../test/support/program.ts';
import { requestOf, startSender, to } from './send.ts';
import { spread, times } from './spread.ts';

const RUNS = 5;
const RUN_MS = 3_000;
const WAITING = 200;
/** All 200 come at once; from then on those who are told to come later come one by one. */
const SETTLE_MS = 1_000;

/** What `GET /protected` feels while 200 clients log in, again and again; who is told to come later does, after a second. */
export async function loginLines(until: Ending, tell: (text: string) => void): Promise<BesideLine[]> {
  const settings = { ...wideLimits, MAX_CONNECTIONS_PER_ADDRESS: '1000', SESSIONS_PER_USER: '10000' };
  const program = await startProgram(until, { folder: folderFor(until), settings });
  const [good, many] = [startSender(until), startSender(until)];
  const request = requestOf('GET', '/protected', { authorization: `Bearer ${(await logIn(program)).access}` });
  const callers = { ...to(program), request, lines: 8, rate: 200 };
  const calm = async (): Promise<number> => {
    const sent = await good({ ...callers, forMs: RUN_MS });
    assert.deepEqual(Object.keys(sent.statuses), ['200']);
    return sent.p99Ms;
  };
  const login = requestOf('POST', '/login', { 'content-type': 'application/json' }, JSON.stringify(demoUser));
  const logins = { ...to(program), request: login, lines: WAITING, restMs: 1_000 };
  await many({ ...logins, forMs: 1 }); // opens the connections
  await calm();
  let done = 0;
  const runs = await times(RUNS, async (run) => {
    tell(`logins, run ${run + 1} of ${RUNS}`);
    const quiet = await calm();
    const logging = many({ ...logins, forMs: SETTLE_MS + RUN_MS + 300 });
    await new Promise((next) => setTimeout(next, SETTLE_MS));
    const busy = await calm();
    done += (await logging).statuses[200] ?? 0;
    return { quiet, busy };
  });
  await program.stop();
  const quiet = runs.map((run) => run.quiet);
  return [
    spread('p99 of GET /protected, nobody logs in', 'ms', quiet),
    spread(
      `p99 of GET /protected while ${WAITING} logins wait`,
      'ms',
      runs.map((run) => run.busy),
      {
        bar: Math.max(3 * median(quiet), 10),
        note: `${Math.round(done / RUNS / ((SETTLE_MS + RUN_MS) / 1_000))} logins a second done beside it`,
      },
    ),
  ];
}
