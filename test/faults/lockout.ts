import { alice, openCluster } from '../support/cluster.ts';
import { demoUser, folderFor, type Program, startProgram, wideLimits } from '../support/program.ts';
import { findings, type Scene, type Seen } from './fault.ts';

/** A name that was guessed at until it was locked is locked still after kill -9, and after an orderly restart. */
export async function lockout(t: Scene, rounds: number, store: 'sqlite' | 'postgres'): Promise<Seen> {
  const found = findings();
  const { start, who } = store === 'sqlite' ? onSqlite(t) : await onPostgres(t);
  let program = await start();
  for (let round = 0; round < rounds; round += 1) {
    const nobody = `nobody ${round}`;
    const tried = await guess(program, nobody);
    if (tried !== 5) found.wrong(`${tried} guesses at ${nobody}, not 5`);
    for (const signal of ['SIGKILL', 'SIGTERM'] as const) {
      await program.stop(signal);
      program = await start();
      const more = await guess(program, nobody);
      if (more > 0) found.wrong(`${more} more guesses at ${nobody} after ${signal}`);
      found.add('restarts');
    }
    t.progress?.(round + 1, rounds);
  }
  const { status, text } = await program.ask('POST', '/login', { json: who });
  if (status !== 200) found.wrong(`another name: ${status} ${text}`);
  return found.seen();
}

/** How many guesses at this name are looked at. */
async function guess(program: Program, username: string): Promise<number> {
  for (let tried = 0; ; tried += 1) {
    const { status, json } = await program.ask('POST', '/login', { json: { username, password: 'x' } });
    if (status === 401 && tried < 20) continue;
    if (json?.code === 'too_many_attempts') return tried;
    throw new Error(`${status} after ${tried} guesses`);
  }
}

function onSqlite(t: Scene) {
  const folder = folderFor(t);
  return { who: demoUser, start: () => startProgram(t, { folder, settings: { ...wideLimits, ISSUER: 'https://localhost' } }) };
}

async function onPostgres(t: Scene) {
  const cluster = await openCluster(t);
  await cluster.addAlice();
  return { who: alice, start: () => cluster.start('one') };
}
