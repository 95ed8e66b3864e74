import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { isPostgresHere } from '../test/support/postgres.ts';
import { isRedisHere } from '../test/support/redis.ts';
import { FRONT_END, good, refusals } from './askings.ts';
import type { Bench } from './bench.ts';
import { heard, startChild } from './child.ts';
import type { Asking, Target } from './generator.ts';
import { openTree, type Portcullis, repository } from './portcullis.ts';
import { type Cost, costOf, REFERENCE, type Round, type Row, startReference, takeRounds } from './reference.ts';
import type { Asked, Built, RungReady, RungSetting } from './rung.ts';
import { type Spread, spread } from './spread.ts';

/** A rung: what it costs with all that is below it, and what it adds to that, in times the reference. */
export type Step = Cost & { readonly adds?: Spread };

/**
 * What each gate adds, so that a regression has an address: the bare platform, the server's wire around it, Fastify, the
 * gates, and one after the other of those whom the gates ask, up to the whole program. Then the same of a refusal.
 */
export async function measureLadder(bench: Bench, rounds = 20): Promise<Step[][]> {
  const tree = await openTree(repository, bench);
  const whole = await tree.embedded();
  const shared = isPostgresHere && isRedisHere ? (await tree.shared()).instance : undefined;
  const reference = await startReference(bench, whole);
  const pem = (name: string): string => readFileSync(join(whole.program.folder, name), 'utf8');

  async function startRung(built: Built): Promise<Target & { access: string }> {
    const child = startChild(bench, 'rung.ts');
    child.send({ cert: pem('cert.pem'), key: pem('key.pem'), built } satisfies RungSetting);
    const { port, access } = await heard<RungReady>(child, bench.signal);
    return { port, access, ca: whole.ca, pids: () => [child.pid ?? 0] };
  }
  const take =
    (target: Target, asking: Asking): Row['take'] =>
    (forMs) =>
      bench.generator.slice(target, asking, forMs);
  async function rung(name: string, built: Built, askingOf: (rung: { access: string; revoked: string }) => Asking): Promise<Row> {
    const target = await startRung(built);
    return { name, take: take(target, askingOf({ ...target, revoked: '' })) };
  }
  const program = (name: string, server: Portcullis, askingOf: (server: Portcullis) => Asking): Row => ({
    name,
    take: take(server, askingOf(server)),
  });

  const everybody: readonly Asked[] = ['counters', 'revocations', 'metrics', 'log'];
  const ladders: Row[][] = await Promise.all([
    Promise.all([
      rung('the wire: one port, bounds', 'wire', good),
      rung('Fastify', 'fastify', good),
      rung('headers, form, who asks', { asks: [] }, () => openTo({})),
      rung('CORS', { asks: [] }, () => openTo({ origin: FRONT_END })),
      rung('token, seen before', { asks: [] }, good),
      rung('counters, in memory', { asks: ['counters'] }, good),
      rung('revocation, in memory', { asks: ['counters', 'revocations'] }, good),
      rung('metrics', { asks: ['counters', 'revocations', 'metrics'] }, good),
      program('the whole program', whole, good),
      ...(shared ? [program('Redis and PostgreSQL instead', shared, good)] : []),
    ]),
    Promise.all([
      rung('a refusal, gates 1 to 4', { asks: [] }, refusals['no token']),
      rung('counters, of failures too', { asks: ['counters'] }, refusals['no token']),
      rung('metrics', { asks: ['counters', 'metrics'] }, refusals['no token']),
      rung('security log', { asks: everybody }, refusals['no token']),
      program('the whole program', whole, refusals['no token']),
    ]),
  ]);
  // One table of rounds, in which a name must be one row's.
  const named = ladders.map((rows, nth) => rows.map((row) => ({ ...row, key: `${nth} ${row.name}` })));
  const all = await takeRounds(
    bench,
    reference,
    named.flat().map(({ key, take }) => ({ name: key, take })),
    rounds,
  );
  return named.map((rows) => [
    costOf(REFERENCE, all),
    ...rows.map(({ key, name }, nth) => ({ ...costOf(key, all), name, adds: added(all, key, rows[nth - 1]?.key) })),
  ]);
}

/** Where anyone may come. */
const openTo = (more: Readonly<Record<string, string>>): Asking => ({
  over: 'HTTP/1.1',
  method: 'GET',
  path: '/open',
  headers: { accept: 'application/json', 'user-agent': 'bench', ...more },
  status: 200,
});

const added = (rounds: readonly Round[], key: string, below: string | undefined): Spread =>
  spread(rounds.map((round) => (round.get(key)?.ratio ?? NaN) - (below === undefined ? 1 : (round.get(below)?.ratio ?? NaN))));
