import assert from 'node:assert/strict';
import { join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { type Ending, folderFor, logIn, type Program, startProgram, wideLimits } from '../../test/support/program.ts';
import type { BesideLine } from '../beside-line.ts';
import { cpuUs } from '../cpu.ts';
import { median } from '../scale/measure.ts';
import { requestOf, type Send, startSender, to } from './send.ts';
import { spread, times } from './spread.ts';

const ROUNDS = 7;
const ROUND_MS = 1_500;
/** What a machine's speed drifts between neighbours. */
const BAR = 1.15;
const FEW = { sessions: 1_000, addresses: 1_000 };
const MANY = { sessions: 1_000_000, addresses: 100_000 };

/** A request to a server with a thousand live sessions and limit keys, and to one with a million and a hundred thousand, in turn. */
export async function manyLines(until: Ending, tell: (text: string) => void): Promise<BesideLine[]> {
  tell('a million sessions');
  const send = startSender(until);
  const places = [await fill(until, send, FEW), await fill(until, send, MANY)];
  const costs = await times(ROUNDS, async (round) => {
    tell(`a million sessions, round ${round + 1} of ${ROUNDS}`);
    const turns = round % 2 ? [1, 0] : [0, 1]; // whoever comes first in a round has the cold caches
    const cost: number[] = [];
    for (const at of turns) cost[at] = await costOf(send, places[at]!);
    const [few = NaN, many = NaN] = cost;
    return { few, many };
  });
  for (const { program } of places) await program.stop();
  const ratio = costs.map(({ few, many }) => many / few);
  const about = `${median(costs.map(({ few }) => few)).toFixed(0)} and ${median(costs.map(({ many }) => many)).toFixed(0)} µs of CPU; the rest: node bench/scale.ts`;
  return [spread('a request with 1,000,000 sessions and 100,000 limit keys, over one with 1,000', '×', ratio, { bar: BAR, note: about })];
}

type Place = { readonly program: Program; readonly order: Parameters<Send>[0] };

async function fill(until: Ending, send: Send, { sessions, addresses }: typeof FEW): Promise<Place> {
  const folder = folderFor(until);
  await (await startProgram(until, { folder })).stop();
  addSessions(join(folder, 'portcullis.db'), sessions);
  const wide = '1000000 per hour by ip';
  const settings = { ...wideLimits, PROTECTED_LIMITS: wide, TRUSTED_PROXIES: '127.0.0.1' };
  const program = await startProgram(until, { folder, settings });
  const { access } = await logIn(program);
  const request = requestOf('GET', '/protected', { authorization: `Bearer ${access}`, 'x-forwarded-for': 'ADDRESS' });
  const order = { ...to(program), request, addresses, lines: 32, forMs: ROUND_MS };
  for (let sent = 0; sent < addresses;) {
    const { completed, statuses } = await send(order);
    assert.deepEqual(Object.keys(statuses), ['200']);
    sent += completed;
  }
  return { program, order };
}

async function costOf(send: Send, { program, order }: Place): Promise<number> {
  const before = cpuUs(program.pid);
  const { completed } = await send(order);
  return (cpuUs(program.pid) - before) / completed;
}

/** Live ones, of users who are not asked for. */
function addSessions(file: string, count: number): void {
  const db = new DatabaseSync(file);
  const now = Date.now();
  const id = (kind: string): string => `'${kind}_0' || cast(1000000000000 + i as text) || '${'0'.repeat(18)}'`;
  db.exec(`with recursive n(i) as (select 1 union all select i + 1 from n where i < ${count})
    insert into sessions (id, user_id, created_at, authenticated_at, expires_at, last_used_at, generation, current_hash, access_until, address, user_agent)
    select ${id('ses')}, ${id('usr')}, ${now} - i, ${now} - i, ${now + 6 * 86_400_000}, ${now} - i, 0, '${'h'.repeat(43)}', ${now + 900_000}, '203.0.113.5', 'bench' from n`);
  assert.ok((db.prepare('select count(*) as n from sessions').get()?.n as number) >= count); // count gives a number
  db.close();
}
