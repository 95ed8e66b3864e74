import { setTimeout as wait } from 'node:timers/promises';
import { demoUser, logIn, startProgram, wideLimits } from '../support/program.ts';
import { findings, p99, type Scene, type Seen, timed } from './fault.ts';

const AT_ONCE = 200;

/**
 * So many logins at once, again and again, beside somebody who asks for what his token opens: he waits for no hash; as many
 * logins as may wait are served, the rest is told at once to come again.
 */
export async function loginFlood(t: Scene, rounds: number): Promise<Seen> {
  const found = findings();
  const program = await startProgram(t, { settings: { ...wideLimits, SESSIONS_PER_USER: '10000', MAX_CONNECTIONS_PER_ADDRESS: '1000' } });
  const { access } = await logIn(program);
  const flood = () => Promise.all(Array.from({ length: AT_ONCE }, () => program.ask('POST', '/login', { json: demoUser })));
  await flood(); // handshakes are not what is measured
  const took: number[] = [];
  for (let round = 0; round < rounds; round += 1) {
    const over = new AbortController();
    const calm = (async () => {
      while (!over.signal.aborted) {
        took.push(
          await timed(async () => {
            const { status, text } = await program.ask('GET', '/protected', { bearer: access });
            if (status !== 200) found.wrong(`GET /protected: ${status} ${text}`);
          }),
        );
        await wait(5);
      }
    })();
    const answers = await flood();
    over.abort();
    await calm;
    for (const { status, json, headers, text } of answers) {
      if (status === 200) found.add('logins');
      else if (json?.code === 'server_busy' && headers['retry-after'] !== undefined) found.add('told to come again');
      else found.wrong(`POST /login: ${status} ${text}`);
    }
    t.progress?.(round + 1, rounds);
  }
  found.add('token checks', took.length);
  return found.seen({ 'token check p99 ms': p99(took) });
}
