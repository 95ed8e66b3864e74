import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { join } from 'node:path';
import { setTimeout as wait } from 'node:timers/promises';
import { alice, openCluster } from '../../test/support/cluster.ts';
import { isPostgresHere } from '../../test/support/postgres.ts';
import { demoUser, type Ending, folderFor, logIn, type Program, startProgram, wideLimits } from '../../test/support/program.ts';
import type { BesideLine } from '../beside-line.ts';
import { cpuUs } from '../cpu.ts';
import { spread } from './spread.ts';

const ROUNDS = 5;
const COUNT = 400;
const CHAINS = 8;

/** CPU time of the server for a `POST /refresh`, beside an UPDATE of one row by the same driver with the same durability, in turn. */
export async function refreshLines(until: Ending, tell: (text: string) => void): Promise<BesideLine[]> {
  tell('refresh, SQLite');
  const folder = folderFor(until);
  const program = await startProgram(until, { folder, settings: { ...wideLimits } });
  const lines = await measure('SQLite', program, demoUser, ['sqlite', join(folder, 'bare.db')]);
  await program.stop();
  if (!isPostgresHere) return lines;

  tell('refresh, PostgreSQL');
  const cluster = await openCluster(until);
  await cluster.addAlice();
  const served = await cluster.start('bench');
  const [name = ''] = new URL(cluster.database).pathname.split('/').slice(1);
  const commits = async (): Promise<number> =>
    Number((await cluster.postgres.query(`select xact_commit from pg_stat_database where datname = '${name}'`)).rows[0].xact_commit);
  lines.push(...(await measure('PostgreSQL', served, alice, ['postgres', cluster.database], commits)));
  await served.stop();
  return lines;
}

async function measure(
  engine: string,
  program: Program,
  user: { username: string; password: string },
  bare: readonly string[],
  commits?: () => Promise<number>,
): Promise<BesideLine[]> {
  const chains = await Promise.all(Array.from({ length: CHAINS }, async () => (await logIn(program, user)).refresh));
  const refreshAll = (count: number): Promise<unknown> =>
    Promise.all(
      chains.map(async (_, chain) => {
        for (let i = 0; i < count / CHAINS; i++) {
          const { status, json } = await program.ask('POST', '/refresh', { bearer: chains[chain]! });
          assert.equal(status, 200);
          chains[chain] = json.refresh_token;
        }
      }),
    );
  await refreshAll(COUNT);
  const [own, theirs]: [number[], number[]] = [[], []];
  for (let round = 0; round < ROUNDS; round++) {
    const before = cpuUs(program.pid);
    await refreshAll(COUNT);
    own.push((cpuUs(program.pid) - before) / COUNT);
    theirs.push(Number(execFileSync(process.execPath, [join(import.meta.dirname, 'bare-update.ts'), ...bare], { encoding: 'utf8' })));
  }
  return [
    spread(`POST /refresh on ${engine}, the server`, 'µs CPU', own, { note: 'with HTTPS, all gates and the signature of the next token' }),
    spread(`a bare UPDATE on ${engine}, its client`, 'µs CPU', theirs),
    ...(commits ? [await commitsOf(commits, refreshAll)] : []),
  ];
}

/** What PostgreSQL commits for each, less what the server does anyway; a connection tells what it has done at most once a second. */
async function commitsOf(commits: () => Promise<number>, refreshAll: (count: number) => Promise<unknown>): Promise<BesideLine> {
  const settled = async (): Promise<number> => {
    await wait(1_500);
    return commits();
  };
  const atFirst = await settled();
  const [startedAt, before] = [performance.now(), await settled()];
  const idle = (before - atFirst) / 1_500;
  await refreshAll(4 * COUNT);
  const after = await settled();
  const each = (after - before - idle * (performance.now() - startedAt)) / (4 * COUNT);
  const note = 'one that writes; the other reads, before it, whether a key has gone';
  return { name: 'transactions of a POST /refresh on PostgreSQL', value: each, unit: '', note };
}
