import assert from 'node:assert/strict';
import { once } from 'node:events';
import { mkdirSync } from 'node:fs';
import { Agent, request } from 'node:http';
import { join } from 'node:path';
import { setTimeout as wait } from 'node:timers/promises';
import { createClient } from '@redis/client';
import type { Tokens } from '../../packages/server/src/flows/services.ts';
import { newId } from '../../packages/server/src/lib/id.ts';
import { type FaultProxy, startFaultProxy } from '../../test/support/fault-proxy.ts';
import type { Postgres } from '../../test/support/postgres.ts';
import { type Ending, folderFor, type Program, runCommand, startProgram, undoAfter, until } from '../../test/support/program.ts';
import { type Redis, startRedis } from '../../test/support/redis.ts';
import { type BenchHouse, logIn, openBenchHouse, servedSettings } from './house.ts';
import { pidOf } from './limits.ts';
import { gather, median, rounds, type Row, type Slope, threadsCpuUs, together, watchFamily } from './measure.ts';

const USERS = 20;
/** Requests at a time, for each instance. */
const WIDTH = 16;
const PASSWORD = 'a long sentence is a good password';

/** One pair of stores, and what is to be asked of them. */
type Site = {
  readonly settings: Readonly<Record<string, string>>;
  readonly redis: Redis;
  /** In this process, and asked past HTTP: it signs in whoever is needed. */
  readonly house: BenchHouse;
  start(name: string, more?: Record<string, string>): Promise<Program>;
};

/** What so many instances cost on one pair of stores: while nobody asks, for each request, for each log-out. */
export async function instanceSlopes(
  t: Ending,
  postgres: Postgres,
  { sizes, times, count, idleMs }: { sizes: readonly number[]; times: number; count: number; idleMs: number },
): Promise<Slope[]> {
  const { redis, house, start } = await openSite(t, postgres);
  const family = watchFamily(await postmasterOf(postgres));
  undoAfter(t, family.end);
  const redisPid = await pidOf(redis);
  const client = await createClient({ url: redis.url }).connect();
  undoAfter(t, () => client.close());
  const scripts = async (): Promise<number> =>
    [...(await client.info('commandstats')).matchAll(/cmdstat_eval(?:sha)?:calls=(\d+)/g)].reduce(
      (sum, [, calls]) => sum + Number(calls),
      0,
    );

  const running: Program[] = [];
  const callers = await signIn(house, 200);
  const [idle, busy, leaving] = [gather(), gather(), gather()];
  await rounds(times, sizes, async (size, at) => {
    while (running.length > size) await running.pop()?.stop();
    const fresh: Promise<Program>[] = [];
    for (let i = running.length; i < size; i++) fresh.push(start(`instance${i}`));
    running.push(...(await Promise.all(fresh)));
    for (const program of running) await until(() => program.output().includes('sessions are asked of Redis'));
    const ask = askerOf(t, running);
    const spent = async (): Promise<number[]> => [
      running.reduce((sum, { pid }) => sum + threadsCpuUs(pid), 0),
      family.cpuUs(),
      threadsCpuUs(redisPid),
      await scripts(),
    ];
    const during = async (work: () => Promise<unknown>): Promise<number[]> => {
      const before = await spent();
      await work();
      return (await spent()).map((value, i) => value - before[i]!);
    };
    const leavers = await signIn(house, 20);
    await together(200, WIDTH * size, (i) => ask('GET', '/protected', callers[i % callers.length]));
    await wait(2_500); // those just started have told of themselves

    const rest = await during(() => wait(idleMs));
    const aSecond = rest.map((value) => (value * 1_000) / idleMs);
    idle.add('each instance', at, aSecond[0]! / size);
    idle.add('PostgreSQL', at, aSecond[1]!);
    idle.add('Redis', at, aSecond[2]!);

    const asked = await during(() => together(count * size, WIDTH * size, (i) => ask('GET', '/protected', callers[i % callers.length])));
    for (const [i, name] of ['the instance', 'PostgreSQL', 'Redis'].entries())
      busy.add(`GET /protected: ${name}`, at, asked[i]! / (count * size));
    const [first] = running as [Program, ...Program[]];
    const askFirst = askerOf(t, [first]);
    const before = threadsCpuUs(first.pid);
    await together(count, WIDTH, (i) => askFirst('GET', '/protected', callers[i % callers.length]));
    busy.add('GET /protected: the instance, one alone asked', at, (threadsCpuUs(first.pid) - before) / count);
    leaving.add('GET /protected', at, asked[3]! / (count * size));

    const left = await during(async () => {
      await together(leavers.length, 4, (i) => ask('POST', '/logout', leavers[i]));
      await wait(2_500); // each instance has looked by then
    });
    leaving.add('POST /logout, and what each instance tells then', at, left[3]! / leavers.length);
  });
  const over = 'instances';
  return [
    { title: 'While nobody asks', over, sizes, unit: 'µs of CPU a second', rows: idle.rows() },
    { title: 'On one pair of stores', over, sizes, unit: 'µs of CPU a request', rows: busy.rows() },
    { title: 'On one pair of stores', over, sizes, unit: 'scripts in Redis each', rows: leaving.rows() },
  ];
}

/** How often each request waits for PostgreSQL and for Redis, told by how much later it is answered when they are further away. */
export async function tripSlopes(t: Ending, postgres: Postgres, { count, delayMs }: { count: number; delayMs: number }): Promise<Slope[]> {
  const { settings, redis, house, start } = await openSite(t, postgres);
  const [toPostgres, toRedis] = [await startFaultProxy(t, postgres.port), await startFaultProxy(t, redis.port)];
  const program = await start('far', {
    DATABASE_URL: String(settings.DATABASE_URL).replace(`:${postgres.port}/`, `:${toPostgres.port}/`),
    REDIS_URL: `redis://127.0.0.1:${toRedis.port}`,
    DATABASE_POOL: '1',
    REDIS_TIMEOUT: '5 s',
    DATABASE_TIMEOUT: '30 s',
  });
  await until(() => program.output().includes('sessions are asked of Redis'));
  const env = Object.fromEntries(Object.entries(settings).map(([name, value]) => [`PORTCULLIS_${name}`, value]));
  assert.equal(
    (
      await runCommand(['users', 'add', 'alice', '--password-stdin'], {
        env: { ...env, PORTCULLIS_DATA_DIR: folderFor(t) },
        input: PASSWORD,
      })
    ).code,
    0,
  );
  const ask = askerOf(t, [program]);
  const signedIn = await signIn(house, 6 * (count + 2));
  const next = (): Tokens => signedIn.pop()!;
  const steady = next();
  const operations: readonly (readonly [string, () => Promise<unknown>])[] = [
    ['GET /protected', () => ask('GET', '/protected', steady)],
    ['a token that is none', () => ask('GET', '/protected', { accessToken: 'none' }, undefined, 401)],
    ['POST /refresh', () => ask('POST', '/refresh', { accessToken: next().refreshToken })],
    ['POST /logout', () => ask('POST', '/logout', next())],
    ['POST /login', () => ask('POST', '/login', undefined, { username: 'alice', password: PASSWORD })],
  ];
  const away = { up: delayMs / 2, down: delayMs / 2 };
  const near = { up: 0, down: 0 };
  const tookMs = async (operation: () => Promise<unknown>): Promise<number> => {
    const all: number[] = [];
    for (let i = 0; i < count; i++) {
      const began = performance.now();
      await operation();
      all.push(performance.now() - began);
    }
    return median(all);
  };
  const tripMs = async (proxy: FaultProxy): Promise<number> => {
    proxy.be({ latencyMs: away });
    const client = await createClient({ url: `redis://127.0.0.1:${proxy.port}` }).connect();
    const took = await tookMs(() => client.ping());
    client.destroy();
    proxy.be({ latencyMs: near });
    return took;
  };
  const trip = await tripMs(toRedis);
  const rows: Row[] = [];
  for (const [name, operation] of operations) {
    await operation();
    const base = await tookMs(operation);
    const later: number[] = [];
    for (const proxy of [toPostgres, toRedis]) {
      proxy.be({ latencyMs: away });
      later.push(((await tookMs(operation)) - base) / trip);
      proxy.be({ latencyMs: near });
    }
    rows.push({ name, values: later });
  }
  return [{ title: 'What a request waits for', over: '', sizes: ['PostgreSQL', 'Redis'], unit: 'round trips', rows }];
}

async function openSite(t: Ending, postgres: Postgres): Promise<Site> {
  const redis = await startRedis();
  undoAfter(t, redis.stop);
  const settings = { ...servedSettings, DATABASE_URL: await postgres.newDatabase(), REDIS_URL: redis.url, SESSIONS_PER_USER: '10000' };
  const house = await openBenchHouse(t, settings);
  for (let user = 0; user < USERS; user++) {
    const id = newId('user');
    await house.services.users.add({ id, username: `user${user}`, createdAt: house.clock.now(), disabledAt: undefined, isDemo: false });
    await house.services.credentials.setPassword(id, 'nobody looks at it', house.clock.now());
  }
  const folder = folderFor(t);
  return {
    settings,
    redis,
    house,
    start(name, more = {}) {
      const own = join(folder, name);
      mkdirSync(own, { recursive: true });
      return startProgram(t, { command: 'serve', folder: own, settings: { ...settings, ...more }, ca: '' });
    },
  };
}

async function signIn(house: BenchHouse, count: number): Promise<Tokens[]> {
  const all: Tokens[] = [];
  for (let i = 0; i < count; i++) all.push(await logIn(house, `user${i % USERS}`));
  return all;
}

async function postmasterOf(postgres: Postgres): Promise<number> {
  const { rows } = await postgres.query(`select pg_read_file('postmaster.pid') as first`);
  return parseInt(rows[0].first, 10);
}

type Ask = (method: string, path: string, tokens?: Pick<Tokens, 'accessToken'>, json?: unknown, status?: number) => Promise<any>;

/** Asks the instances in turn, as their proxy would. */
function askerOf(t: Ending, programs: readonly Program[]): Ask {
  const agent = new Agent({ keepAlive: true, maxSockets: 2 * WIDTH });
  undoAfter(t, () => agent.destroy());
  let turn = 0;
  return async (method, path, tokens, json, status = 200) => {
    const body = json === undefined ? '' : JSON.stringify(json);
    const headers = {
      host: 'localhost',
      'x-forwarded-proto': 'https',
      'x-forwarded-for': '203.0.113.5',
      'content-length': Buffer.byteLength(body),
      ...(json !== undefined && { 'content-type': 'application/json' }),
      ...(tokens && { authorization: `Bearer ${tokens.accessToken}` }),
    };
    const { port } = programs[turn++ % programs.length]!;
    const sent = request({ host: '127.0.0.1', port, method, path, agent, headers });
    sent.end(body);
    const [answer] = await once(sent, 'response');
    let text = '';
    for await (const chunk of answer.setEncoding('utf8')) text += chunk;
    assert.equal(answer.statusCode, status, `${method} ${path}: ${text}`);
    return JSON.parse(text);
  };
}
