import assert from 'node:assert/strict';
import { type ChildProcess, fork } from 'node:child_process';
import { once } from 'node:events';
import { availableParallelism } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { alice, openSharedCluster } from '../test/support/cluster.ts';
import { isPostgresHere } from '../test/support/postgres.ts';
import { demoUser, folderFor, logIn, type Program, startProgram, until as isSo, wideLimits } from '../test/support/program.ts';
import { isRedisHere } from '../test/support/redis.ts';
import { cpuUs } from './cpu.ts';
import type { Done, Order } from './load.ts';

/**
 * What the seven gates cost: CPU time of the server for each request of `GET /protected`, with every gate at work,
 * against Node's own HTTPS server with the same certificate, which answers the same body and asks nothing. Both are
 * measured in turn, many times, because a machine's speed drifts more than what is measured.
 */
const {
  values: { json },
} = parseArgs({ options: { json: { type: 'boolean', default: false } } });

const ROUNDS = 6;
const WARM_UP_MS = 1_000;
const FRONT_END = 'https://your-frontend.com';

type Row = {
  readonly name: string;
  readonly server: { readonly pid: number; readonly port: number; readonly ca: string };
  readonly order: Omit<Order, 'port' | 'ca' | 'forMs'>;
  readonly status: number;
  readonly forMs: number;
  /** The row that this one's cost is divided by, pair by pair. */
  readonly against?: Row;
};

type Slice = Done & { readonly cpuUs: number };
type Spread = { readonly median: number; readonly min: number; readonly max: number };

await using held = new AsyncDisposableStack();
/** Told when a part has ended, or somebody wants this to end: then everything does, in its order. */
const ended = new AbortController();
for (const signal of ['SIGINT', 'SIGTERM'] as const) process.once(signal, () => ended.abort(new Error(signal)));

const until = { after: (work: () => Promise<void> | void) => held.defer(async () => work()) };
const limits = {
  PROTECTED_LIMITS: '1000000000 per minute by ip',
  AUTH_FAILURE_LIMITS: '1000000000 per minute by ip',
  LOGOUT_LIMITS: '1 per hour by ip',
};
const program = await startProgram(until, {
  folder: folderFor(until),
  settings: { ...wideLimits, ...limits },
});
const { access, tampered } = await seeItWork(program, demoUser);
const shared = isPostgresHere && isRedisHere ? await startShared() : undefined;
const bare = start('bare.ts', [join(program.folder, 'cert.pem'), join(program.folder, 'key.pem')]);
const [ports] = (await once(bare, 'message', { signal: ended.signal })) as [{ http1: number; http2: number }];
const generator = start('load.ts');

const rows = makeRows();
for (const row of rows) await measure(row, WARM_UP_MS);
await seeItCount(program, rows[1]!);
const slices = new Map<Row, Slice[]>(rows.map((row) => [row, []]));
for (let round = 0; round < ROUNDS; round++) for (const row of rows) slices.get(row)?.push(await measure(row, row.forMs));

const results = rows.map(resultOf);
console.log(
  json
    ? JSON.stringify({ node: process.version, cores: availableParallelism(), rounds: ROUNDS, rows: results }, undefined, 2)
    : tableOf(results),
);

function makeRows(): Row[] {
  const { ca } = program;
  const ours = { pid: program.pid, port: program.port, ca };
  const headers = { origin: FRONT_END, authorization: `Bearer ${access}`, accept: 'application/json', 'user-agent': 'bench' };
  const get = { over: 'HTTP/1.1', method: 'GET', path: '/protected', headers } as const;
  const { authorization: _, ...anonymous } = headers;

  const bare1: Row = { name: 'bare node:https', server: { pid: bare.pid!, port: ports.http1, ca }, order: get, status: 200, forMs: 1_500 };
  const bare2: Row = {
    name: 'bare node:http2',
    server: { pid: bare.pid!, port: ports.http2, ca },
    order: { ...get, over: 'HTTP/2' },
    status: 200,
    forMs: 700,
  };
  const refused = { server: ours, forMs: 700, against: bare1 };
  return [
    bare1,
    { name: 'GET /protected, all gates', server: ours, order: get, status: 200, forMs: 1_500, against: bare1 },
    ...(shared
      ? [
          {
            name: 'the same on PostgreSQL and Redis',
            server: { pid: shared.program.pid, port: shared.program.port, ca: shared.program.ca },
            order: { ...get, headers: { ...headers, authorization: `Bearer ${shared.access}` } },
            status: 200,
            forMs: 1_500,
            against: bare1,
          },
        ]
      : []),
    { ...refused, name: '401, no token', order: { ...get, headers: anonymous }, status: 401 },
    {
      ...refused,
      name: '401, bad signature',
      order: { ...get, headers: { ...headers, authorization: `Bearer ${tampered}` } },
      status: 401,
    },
    {
      ...refused,
      name: '429, over the limit',
      order: { ...get, method: 'POST', path: '/logout', headers: { ...headers, 'content-length': '0' } },
      status: 429,
    },
    bare2,
    { name: 'GET /protected over HTTP/2', server: ours, order: { ...get, over: 'HTTP/2' }, status: 200, forMs: 700, against: bare2 },
  ];
}

async function measure({ name, server, order, status }: Row, forMs: number): Promise<Slice> {
  const before = cpuUs(server.pid);
  generator.send({ ...order, port: server.port, ca: server.ca, forMs } satisfies Order);
  const [done] = (await once(generator, 'message', { signal: ended.signal })) as [Done];
  assert.deepEqual(done.statuses, [status], name);
  return { ...done, cpuUs: (cpuUs(server.pid) - before) / done.completed };
}

/** A server that skipped its gates would be fast. */
async function seeItWork(program: Program, user: { username: string; password: string }): Promise<{ access: string; tampered: string }> {
  const ask = (bearer?: string) => program.ask('GET', '/protected', { headers: { origin: FRONT_END }, ...(bearer && { bearer }) });
  const { access } = await logIn(program, user);
  const { access: ended } = await logIn(program, user);
  const tampered = access.slice(0, -20) + access.slice(-20).split('').toReversed().join('').replace(/.$/, 'A');

  const { status, json, headers } = await ask(access);
  assert.deepEqual({ status, json }, { status: 200, json: { logged_in_as: user.username } });
  for (const name of [
    'strict-transport-security',
    'content-security-policy',
    'x-content-type-options',
    'x-request-id',
    'ratelimit',
    'ratelimit-policy',
  ])
    assert.ok(headers[name], name);
  assert.equal(headers['access-control-allow-origin'], FRONT_END);
  assert.equal(headers['cache-control'], 'no-store');

  assert.equal((await ask(ended)).status, 200);
  assert.equal((await program.ask('POST', '/logout', { bearer: ended })).status, 200);
  assert.equal((await ask(ended)).json.msg, 'Token has been revoked');
  assert.equal((await program.ask('POST', '/logout', { bearer: ended })).status, 429);
  assert.equal((await ask(tampered)).json.msg, 'Token is invalid');
  assert.equal((await ask()).json.msg, 'Missing Authorization Header');
  return { access, tampered };
}

/** An instance as one of several, on stores of its own. */
async function startShared(): Promise<{ program: Program; access: string }> {
  const cluster = await openSharedCluster(until, { ...limits, CORS_ORIGINS: FRONT_END });
  const program = await cluster.start('bench');
  await isSo(() => program.output().includes('sessions are asked of Redis'));
  const { access } = await seeItWork(program, alice);
  return { program, access };
}

/** Every request of a burst is on the limit's account, to the last one. */
async function seeItCount(program: Program, row: Row): Promise<void> {
  const left = async () =>
    Number(/;r=(\d+)/.exec(String((await program.ask('GET', '/protected', { bearer: access })).headers.ratelimit))?.[1]);
  const before = await left();
  const { completed } = await measure(row, 200);
  assert.equal(before - (await left()), completed + 1);
}

function start(file: string, args: string[] = []): ChildProcess {
  const child = fork(join(import.meta.dirname, file), args);
  child.once('exit', () => ended.abort(new Error(`${file} has ended`)));
  held.defer(async () => {
    if (child.connected) {
      child.disconnect();
      await once(child, 'exit');
    }
  });
  return child;
}

type Result = ReturnType<typeof resultOf>;

function resultOf(row: Row) {
  const own = slices.get(row) ?? [];
  const base = row.against && slices.get(row.against);
  return {
    name: row.name,
    cpuUs: spread(own.map((slice) => slice.cpuUs)),
    ratio: base && spread(own.map((slice, round) => slice.cpuUs / base[round]!.cpuUs)),
    perSecond: spread(own.map(({ completed, tookMs }) => (completed / tookMs) * 1_000)).median,
    p50Ms: spread(own.map(({ p50Ms }) => p50Ms)).median,
    p99Ms: spread(own.map(({ p99Ms }) => p99Ms)).median,
  };
}

function spread(values: readonly number[]): Spread {
  const sorted = values.toSorted((a, b) => a - b);
  const half = sorted.length / 2;
  return { median: (sorted[Math.ceil(half) - 1]! + sorted[Math.floor(half)]!) / 2, min: sorted[0]!, max: sorted.at(-1)! };
}

function tableOf(results: readonly Result[]): string {
  const shown = (of: Spread | undefined, digits: number) =>
    of ? `${of.median.toFixed(digits)} (${of.min.toFixed(digits)}..${of.max.toFixed(digits)})` : '';
  const lines = [
    ['', 'server CPU µs/request', '× bare', 'requests/s', 'p50 ms', 'p99 ms'],
    ...results.map(({ name, cpuUs, ratio, perSecond, p50Ms, p99Ms }) => [
      name,
      shown(cpuUs, 1),
      shown(ratio, 2),
      perSecond.toFixed(0),
      p50Ms.toFixed(2),
      p99Ms.toFixed(2),
    ]),
  ];
  const widths = lines[0]!.map((_, column) => Math.max(...lines.map((line) => line[column]!.length)));
  return [
    `Node ${process.version}, ${availableParallelism()} cores, 32 requests at a time over TLS 1.3; medians of ${ROUNDS} rounds (min..max)`,
    '',
    ...lines.map((line) =>
      line
        .map((cell, column) => (column ? cell.padStart(widths[column]!) : cell.padEnd(widths[column]!)))
        .join('  ')
        .trimEnd(),
    ),
  ].join('\n');
}
