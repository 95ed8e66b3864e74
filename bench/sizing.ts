import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdirSync, readFileSync, statSync } from 'node:fs';
import { Agent, request } from 'node:http';
import { join } from 'node:path';
import { setTimeout as wait } from 'node:timers/promises';
import { createClient } from '@redis/client';
import pg from 'pg';
import { freePort } from '../test/support/free-port.ts';
import { startPostgres } from '../test/support/postgres.ts';
import { folderFor, runCommand, startProgram, until, wideLimits } from '../test/support/program.ts';
import { cpuUs } from './cpu.ts';

/**
 * What an operator must know to choose machines and disks: CPU time of an instance, of PostgreSQL and of Redis for each kind
 * of request, memory, and what is kept for how much. One instance behind a proxy that ends TLS, on a real PostgreSQL and a
 * Redis that writes each counter to its disk; medians of rounds, since a machine's speed drifts. `node bench/sizing.ts`
 */
const ROUNDS = 5;
const USERS = 10;
const PASSWORD = 'a long sentence is a good password';

await using held = new AsyncDisposableStack();
const t = { after: (work: () => Promise<void> | void) => held.defer(async () => work()) };
const folder = folderFor(t);

const postgres = await startPostgres();
t.after(postgres.stop);
const url = await postgres.newDatabase();
const redisPort = await freePort();
const kept = '--appendonly yes --appendfsync always --maxmemory-policy noeviction'.split(' ');
const redis = spawn('redis-server', ['--port', String(redisPort), '--bind', '127.0.0.1', '--dir', folder, '--save', '', ...kept]);
t.after(async () => {
  redis.kill();
  await once(redis, 'close');
});
const counters = await createClient({ url: `redis://127.0.0.1:${redisPort}`, socket: { reconnectStrategy: 50 } })
  .on('error', () => {})
  .connect();
t.after(() => counters.close());

const settings = {
  ...wideLimits,
  DATABASE_URL: url,
  REDIS_URL: `redis://127.0.0.1:${redisPort}`,
  ISSUER: 'https://localhost',
  MASTER_SECRET: 'q3ZkT0v9yX7uB1nLw5cRj8sHd2fGm6aE4pKi',
  TLS_AT_PROXY: 'true',
  TRUSTED_PROXIES: '127.0.0.1',
  SESSIONS_PER_USER: '10000',
};
const data = join(folder, 'data');
mkdirSync(data);
const program = await startProgram(t, { command: 'serve', folder: data, settings, ca: '' });
await until(() => program.output().includes('Redis is there'));
const env = Object.fromEntries(Object.entries({ ...settings, DATA_DIR: data }).map(([name, value]) => [`PORTCULLIS_${name}`, value]));
for (let user = 0; user < USERS; user++)
  assert.equal((await runCommand(['users', 'add', `user${user}`, '--password-stdin'], { env, input: PASSWORD })).code, 0);
await wait(2_000);
const idleMb = memoryMb();

const database = new pg.Client({ connectionString: url });
await database.connect();
t.after(() => database.end());
const rowsOf = async (sql: string): Promise<any[]> => (await database.query(sql)).rows; // what a statement asks for
const [{ first }] = await rowsOf(`select pg_read_file('postmaster.pid') as first`);
const postmaster = parseInt(first, 10);

const agent = new Agent({ keepAlive: true, maxSockets: 32 });
t.after(() => agent.destroy());
type Tokens = { access_token: string; refresh_token: string };
const sessions: Tokens[] = [];
const bearer = (token: string) => ({ authorization: `Bearer ${token}` });
const access = (i: number) => bearer(sessions[i % sessions.length]!.access_token);

console.log(`Node ${process.version}; CPU time for each request in µs, medians of ${ROUNDS} rounds\n`);
console.log(['', 'instance', 'PostgreSQL', 'Redis', 'a second'].map((head, i) => (i ? head.padStart(11) : head.padEnd(34))).join(''));
const empty = await sizes();
await measure('POST /login', 400, 8, async (i) => {
  sessions.push(await ask('POST', '/login', address(i), { username: `user${i % USERS}`, password: PASSWORD }));
});
const full = await sizes();
await measure('GET /protected', 8_000, 32, (i) => ask('GET', '/protected', access(i)));
const before = await inRedis();
await measure('GET /protected, ever new addresses', 8_000, 32, (i) => ask('GET', '/protected', { ...access(i), ...address(i) }));
const after = await inRedis();
await measure('POST /refresh', 400, 16, async (i) => {
  sessions[i] = await ask('POST', '/refresh', bearer(sessions[i]!.refresh_token));
});
const refreshed = await sizes();
const busyMb = memoryMb();
await measure('POST /logout', 400, 16, (i) => ask('POST', '/logout', access(i)));

const per = (bytes: number, count: number): string => `${Math.round(bytes / count)} bytes`;
const log = join(data, 'security.log');
await wait(1_000);
console.log(`
an instance       ${idleMb} MB idle, ${busyMb} MB after this
a session         ${per(full.sessions - empty.sessions, ROUNDS * 400)}, ${per(refreshed.sessions - empty.sessions, ROUNDS * 400)} once refreshed
an audit entry    ${per(full.audit - empty.audit, ROUNDS * 400)}
WAL               ${per(full.wal - empty.wal, ROUNDS * 400)} a login
a limit's counter ${per(after.bytes - before.bytes, after.keys - before.keys)} in Redis
the security log  ${per(statSync(log).size, readFileSync(log, 'utf8').split('\n').length)} a line`);

async function measure(name: string, count: number, width: number, one: (i: number) => Promise<unknown>): Promise<void> {
  const rounds: number[][] = [];
  for (let round = 0; round < ROUNDS; round++) {
    const [start, startedAt] = [spent(), performance.now()];
    let next = 0;
    await Promise.all(
      Array.from({ length: width }, async () => {
        while (next < count) await one(round * count + next++);
      }),
    );
    const seconds = (performance.now() - startedAt) / 1_000;
    rounds.push([...spent().map((us, i) => (us - start[i]!) / count), count / seconds]);
  }
  const medians = [0, 1, 2, 3].map((column) => rounds.map((round) => round[column]!).toSorted((a, b) => a - b)[Math.floor(ROUNDS / 2)]!);
  console.log([name.padEnd(34), ...medians.map((value) => value.toFixed(0).padStart(11))].join(''));
}

/** CPU time so far of the instance, of PostgreSQL with all that it has started, of Redis. */
function spent(): number[] {
  const children = readFileSync(`/proc/${postmaster}/task/${postmaster}/children`, 'utf8').split(' ').filter(Boolean).map(Number);
  const ofPostgres = [postmaster, ...children].reduce((sum, pid) => sum + cpuUs(pid), 0);
  return [cpuUs(program.pid), ofPostgres, cpuUs(redis.pid!)];
}

function memoryMb(): number {
  return Math.round(Number(/VmRSS:\s+(\d+)/.exec(readFileSync(`/proc/${program.pid}/status`, 'utf8'))?.[1]) / 1_024);
}

async function sizes(): Promise<{ sessions: number; audit: number; wal: number }> {
  const [row] =
    await rowsOf(`select pg_total_relation_size('sessions')::float8 as sessions, pg_total_relation_size('audit')::float8 as audit,
    pg_wal_lsn_diff(pg_current_wal_lsn(), '0/0')::float8 as wal`);
  return row;
}

async function inRedis(): Promise<{ keys: number; bytes: number }> {
  return { keys: await counters.dbSize(), bytes: Number(/used_memory:(\d+)/.exec(await counters.info('memory'))?.[1]) };
}

/** Of a caller of its own, as the proxy would say. */
function address(i: number): Record<string, string> {
  return { 'x-forwarded-for': `10.${(i >> 16) & 255}.${(i >> 8) & 255}.${i & 255}` };
}

async function ask(method: string, path: string, headers: Record<string, string>, json?: unknown): Promise<any> {
  const body = json === undefined ? '' : JSON.stringify(json);
  const from = { host: 'localhost', 'x-forwarded-proto': 'https', 'x-forwarded-for': '203.0.113.5', ...headers };
  const about = json === undefined ? {} : { 'content-type': 'application/json' };
  const fields = { ...from, ...about, 'content-length': Buffer.byteLength(body) };
  const sent = request({ host: '127.0.0.1', port: program.port, method, path, agent, headers: fields });
  sent.end(body);
  const [answer] = await once(sent, 'response');
  let text = '';
  for await (const chunk of answer.setEncoding('utf8')) text += chunk;
  assert.equal(answer.statusCode, 200, `${method} ${path}: ${text}`);
  return JSON.parse(text);
}
