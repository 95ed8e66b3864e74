import { readFileSync } from 'node:fs';
import { setTimeout as wait } from 'node:timers/promises';
import { alice, openSharedCluster } from '../../test/support/cluster.ts';
import { isPostgresHere } from '../../test/support/postgres.ts';
import { demoUser, type Ending, folderFor, logIn, type Program, startProgram, wideLimits } from '../../test/support/program.ts';
import { isRedisHere } from '../../test/support/redis.ts';
import type { BesideLine } from '../beside-line.ts';
import { requestOf, type Send, startSender, to } from './send.ts';

const IDLE_MS = 10_000;
const BAR_MB = 120;
/** Requests of each load: a minute's worth at almost a thousand a second. */
const LOAD = 50_000;
/** What the third load may be above the first: the heap is cleaned when it pays. */
const FLAT = 1.15;

/** Resident memory ten seconds after the start and some requests, and as it is loaded. */
export async function memoryLines(until: Ending, tell: (text: string) => void): Promise<BesideLine[]> {
  const sender = startSender(until);
  // Once before, so that what Node compiles is there.
  await (await startProgram(until, { folder: folderFor(until) })).stop();
  const embedded = await startProgram(until, { folder: folderFor(until), settings: { ...wideLimits } });
  const shared = isPostgresHere && isRedisHere ? await startShared(until) : undefined;
  const lines: BesideLine[] = [];
  for (const [name, program, user] of [
    ['embedded', embedded, demoUser] as const,
    ...(shared ? [['PostgreSQL and Redis', shared, alice] as const] : []),
  ])
    lines.push(...(await measure(name, program, user, sender, tell)));
  return lines;
}

async function startShared(until: Ending): Promise<Program> {
  const cluster = await openSharedCluster(until);
  await (await cluster.start('warm')).stop();
  return cluster.start('bench');
}

async function measure(
  name: string,
  program: Program,
  user: { username: string; password: string },
  send: Send,
  tell: (text: string) => void,
): Promise<BesideLine[]> {
  tell(`memory, ${name}`);
  const request = requestOf('GET', '/protected', { authorization: `Bearer ${(await logIn(program, user)).access}` });
  await wait(IDLE_MS);
  const idle = rssMb(program.pid);
  const loaded: number[] = [];
  // The first one only brings the heap to its size.
  for (let load = 0; load < 4; load++) {
    for (let done = 0; done < LOAD;) done += (await send({ ...to(program), request, lines: 32, forMs: 1_000 })).completed;
    loaded.push(rssMb(program.pid));
  }
  await program.stop();
  const [, first = NaN, , last = NaN] = loaded;
  const bar = first * FLAT;
  return [
    { name: `memory idle: ${name}`, value: idle, unit: 'MB', bar: BAR_MB, holds: idle <= BAR_MB },
    { name: `memory after ${2 * LOAD} requests: ${name}`, value: first, unit: 'MB' },
    {
      name: `memory after ${4 * LOAD} requests: ${name}`,
      value: last,
      unit: 'MB',
      bar,
      holds: last <= bar,
      note: loaded.map(Math.round).join(', '),
    },
  ];
}

/** Resident memory of a process, MB; the pages of Node's own program that it has touched are in it. */
function rssMb(pid: number): number {
  return Number(/VmRSS:\s+(\d+)/.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1]) / 1_024;
}
