import assert from 'node:assert/strict';
import { type ChildProcess, fork, spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { Agent, request } from 'node:https';
import type { IncomingHttpHeaders } from 'node:http';
import { availableParallelism } from 'node:os';
import { join } from 'node:path';
import { systemClock } from '@portcullis/guard';
import { devCertificate } from '../../packages/server/src/lib/dev-certificate.ts';
import { type Ending, folderFor, undoAfter } from '../../test/support/program.ts';
import { isRedisHere, type Redis, startRedis } from '../../test/support/redis.ts';
import type { Contestant } from '../contestant.ts';
import { installPeers } from './install.ts';

type Answer = { readonly status: number; readonly headers: IncomingHttpHeaders; readonly json: any }; // whatever a peer says
type Ask = (method: string, path: string, headers?: Record<string, string>, json?: unknown) => Promise<Answer>;
/** What a caller sends to be known. */
type Token = Record<string, string>;

/** How its callers come and go. */
type Door = {
  readonly path: string;
  logIn(ask: Ask): Promise<Token>;
  logOut(ask: Ask, token: Token): Promise<Answer>;
  /** The same with another signature. */
  tamper(token: Token): Token;
};

type Peer = {
  readonly name: string;
  readonly versions: string;
  readonly note: string;
  readonly door: Door;
  start(given: Given): Promise<{ port: number; pids(): number[] }>;
};

/** A Redis database is one peer's own, so that all keys in it are. */
type Given = { readonly certFile: string; readonly keyFile: string; readonly redisUrl: string; readonly until: Ending };

const FRONT_END = 'https://your-frontend.com';
const STARTS_WITHIN_MS = 60_000;
const BURST = 40;

/**
 * The peers, each started with a certificate and a key of the same kind, logged in to, on one Redis between them.
 * What is missing here is skipped, with a line on stderr that says what to install.
 */
export async function openContestants(until: Ending): Promise<Contestant[]> {
  const tell = (line: string): void => console.error(line);
  if (!isRedisHere) {
    tell('The peers are skipped: install redis-server.');
    return [];
  }
  installPeers(tell);
  const folder = folderFor(until);
  const { certFile, keyFile, caFile } = await devCertificate(folder, systemClock());
  const ca = readFileSync(caFile, 'utf8');
  const redis = await startRedis();
  undoAfter(until, () => redis.stop());
  const redisPid = Number(/process_id:(\d+)/.exec(await redis.tell('info', 'server'))?.[1]);

  const open = async ({ name, versions, note, door, start }: Peer, database: number): Promise<Contestant> => {
    const { port, pids } = await start({ certFile, keyFile, redisUrl: `${redis.url}/${database}`, until });
    const ask = askAt(port, ca, until);
    const token = await door.logIn(ask);
    return {
      name,
      versions,
      pids,
      storePids: () => [redisPid],
      port,
      ca,
      over: 'HTTP/1.1',
      protected: { method: 'GET', path: door.path, headers: token },
      seeItWork: () => seeItWork(door, ask, token, () => counted(redis, database)),
      note,
    };
  };
  const contestants: Contestant[] = [];
  // One after the other: some give up on a Redis that does not answer at once, as on a machine where all start together.
  for (const [database, peer] of [...nodePeers(), ...flaskPeers(tell)].entries()) contestants.push(await open(peer, database));
  return contestants;
}

/** A server that skipped part of the work would be fast. */
async function seeItWork({ path, logIn, logOut, tamper }: Door, ask: Ask, token: Token, counted: () => Promise<number>): Promise<void> {
  const get = (headers?: Token, origin = FRONT_END): Promise<Answer> => ask('GET', path, { origin, ...headers });

  const { status, json, headers } = await get(token);
  assert.deepEqual({ status, json }, { status: 200, json: { logged_in_as: 'testuser' } });
  for (const name of ['strict-transport-security', 'content-security-policy', 'x-content-type-options']) assert.ok(headers[name], name);
  assert.equal(headers['access-control-allow-origin'], FRONT_END);
  const stranger = 'https://elsewhere.example';
  const { headers: toStranger } = await get(token, stranger);
  assert.ok(![stranger, '*'].includes(toStranger['access-control-allow-origin'] ?? ''), 'another origin is allowed');

  const ended = await logIn(ask);
  assert.equal((await get(ended)).status, 200);
  assert.equal((await logOut(ask, ended)).status, 200);
  // 422 is what Flask-JWT-Extended says of a signature that is not right.
  for (const refused of [ended, tamper(token), undefined]) assert.ok([401, 422].includes((await get(refused)).status), 'let in');

  const before = await counted();
  const burst = await Promise.all(Array.from({ length: BURST }, () => get(token)));
  assert.ok(burst.every(({ status }) => status === 200));
  assert.equal((await counted()) - before, BURST, 'requests counted in Redis');
}

/** All that a peer has counted: of what it keeps, only counters are numbers. */
async function counted(redis: Redis, database: number): Promise<number> {
  const tell = (...words: string[]): Promise<string> => redis.tell('-n', String(database), ...words);
  const keys = (await tell('keys', '*')).split('\n').filter(Boolean);
  const values = await Promise.all(keys.map((key) => tell('get', key)));
  return values.filter((value) => /^\d+$/.test(value)).reduce((sum, value) => sum + Number(value), 0);
}

const bearer: Door = {
  path: '/protected',
  async logIn(ask) {
    const { status, json } = await ask('POST', '/login', {}, { username: 'testuser', password: 'password123' });
    assert.equal(status, 200);
    return { authorization: `Bearer ${json.access_token}` };
  },
  logOut: (ask, token) => ask('POST', '/logout', token),
  tamper: ({ authorization = '' }) => ({ authorization: otherAt(authorization, authorization.length - 20) }),
};

/** The paths of better-auth, and its signed cookie. */
const cookie: Door = {
  path: '/protected',
  async logIn(ask) {
    const who = { email: 'testuser@example.com', password: 'password123' };
    const { status, headers } = await ask('POST', '/api/auth/sign-in/email', { origin: FRONT_END }, who);
    assert.equal(status, 200);
    return { cookie: (headers['set-cookie'] ?? []).map((set) => set.split(';')[0]).join('; ') };
  },
  logOut: (ask, token) => ask('POST', '/api/auth/sign-out', { origin: FRONT_END, ...token }, {}),
  tamper: ({ cookie = '' }) => ({ cookie: otherAt(cookie, cookie.length - 20) }),
};

const otherAt = (text: string, at: number): string => text.slice(0, at) + (text[at] === 'A' ? 'B' : 'A') + text.slice(at + 1);

function nodePeers(): Peer[] {
  const { dependencies } = JSON.parse(readFileSync(join(import.meta.dirname, 'package.json'), 'utf8')) as {
    dependencies: Record<string, string>; // as it lies beside this file
  };
  const of = (...names: string[]): string => names.map((name) => `${name} ${dependencies[name]}`).join(', ');
  const node = (name: string, main: string, versions: string, note: string, door = bearer, signing = ''): Peer => ({
    name,
    versions,
    note,
    door,
    start: ({ certFile, keyFile, redisUrl, until }) => startNode(main, [certFile, keyFile, redisUrl, signing], until),
  });

  const fastify = of('fastify', '@fastify/jwt', '@fastify/rate-limit', '@fastify/cors', '@fastify/helmet', 'ioredis');
  const express = (...tokens: string[]): string =>
    of('express', ...tokens, 'express-rate-limit', 'rate-limit-redis', 'cors', 'helmet', 'redis');
  return [
    node('Fastify, EdDSA, tokens remembered', 'fastify/main.ts', fastify, 'the cache of @fastify/jwt is on', bearer, 'EdDSA, remembered'),
    node('Fastify, EdDSA', 'fastify/main.ts', fastify, 'each token verified each time, the default', bearer, 'EdDSA'),
    node('Fastify, HS256', 'fastify/main.ts', fastify, 'each token verified each time, the default', bearer, 'HS256'),
    node('Express, EdDSA', 'express/main.ts', express('jose'), 'by jose: express-jwt has no EdDSA', bearer, 'EdDSA'),
    node('Express, HS256', 'express/main.ts', express('express-jwt', 'jsonwebtoken'), 'by express-jwt', bearer, 'HS256'),
    node(
      'NestJS, HS256',
      'dist/nest/main.js',
      of('@nestjs/core', '@nestjs/jwt', '@nestjs/throttler', '@nest-lab/throttler-storage-redis', 'helmet', 'ioredis'),
      'on Express, its default; @nestjs/jwt has no EdDSA',
    ),
    node(
      'better-auth on Express',
      'better-auth/main.ts',
      of('better-auth', '@better-auth/redis-storage', 'express', 'express-rate-limit', 'rate-limit-redis', 'cors', 'helmet', 'ioredis'),
      'no JWT: a signed cookie, its session read from Redis; its cookie cache is off, as a revoked session outlives it',
      cookie,
    ),
  ];
}

async function startNode(main: string, args: string[], until: Ending): Promise<{ port: number; pids(): number[] }> {
  const env = { PATH: process.env.PATH, HOME: process.env.HOME, NODE_ENV: 'production' };
  const child = fork(join(import.meta.dirname, main), args, { env, stdio: ['ignore', 'ignore', 'inherit', 'ipc'] });
  endAfter(until, child);
  const [{ port }] = (await soon(child, main, once(child, 'message'))) as [{ port: number }];
  return { port, pids: () => [child.pid ?? 0] };
}

const PYTHON = '/usr/bin/python3';
/** As many as connections: one that has shaken hands and says nothing yet holds a thread, and the rest would wait for it. */
const THREADS = 32;
const packages = ['gunicorn', 'python3-flask', 'python3-python-flask-jwt-extended', 'python3-flask-limiter', 'python3-flask-cors'];
const more = ['python3-flask-talisman', 'python3-redis', 'python3-cryptography'];

/**
 * On Debian's packages. Workers with threads, because the default ones keep no connection alive, and gevent's cost more;
 * a worker for each core: twice as many and one more, where its documentation begins, cost more as well.
 */
function flaskPeers(tell: (line: string) => void): Peer[] {
  const names = ['Flask', 'Flask-JWT-Extended', 'Flask-Limiter', 'Flask-Cors', 'flask-talisman', 'redis', 'cryptography', 'gunicorn'];
  const says = 'import platform, sys; from importlib.metadata import version';
  const script = `${says}; print("Python " + platform.python_version(), *(n + " " + version(n) for n in sys.argv[1:]), sep=", ")`;
  const { status, stdout } = spawnSync(PYTHON, ['-c', script, ...names], { encoding: 'utf8' });
  if (status !== 0) {
    tell(`Flask is skipped: apt-get install ${[...packages, ...more].join(' ')}`);
    return [];
  }
  const workers = availableParallelism();
  return ['EdDSA', 'HS256'].map((signing) => ({
    name: `Flask under gunicorn, ${signing}`,
    versions: stdout.trim(),
    note: `${workers} gthread workers of ${THREADS} threads; all its processes are counted`,
    door: bearer,
    start: (given) => startGunicorn(signing, workers, given),
  }));
}

async function startGunicorn(
  signing: string,
  workers: number,
  { certFile, keyFile, redisUrl, until }: Given,
): Promise<{ port: number; pids(): number[] }> {
  const serving = ['--bind', '127.0.0.1:0', '--certfile', certFile, '--keyfile', keyFile, '--keep-alive', '600'];
  const working = ['--preload', '--worker-class', 'gthread', '--workers', String(workers), '--threads', String(THREADS)];
  const child = spawn(PYTHON, ['-m', 'gunicorn', ...serving, ...working, 'app:app'], {
    cwd: join(import.meta.dirname, 'flask'),
    env: { PATH: process.env.PATH, PEER_REDIS: redisUrl, PEER_SIGNING: signing, PYTHONDONTWRITEBYTECODE: '1' },
    stdio: ['ignore', 'ignore', 'pipe'],
  });
  endAfter(until, child);
  const pids = (): number[] => [child.pid ?? 0, ...childrenOf(child.pid ?? 0)];
  let said = '';
  const listening = new Promise<number>((resolve) => {
    child.stderr.on('data', (chunk) => {
      said += chunk;
      const [, port] = /Listening at: https:\/\/127\.0\.0\.1:(\d+)/.exec(said) ?? [];
      if (port && said.split('Booting worker').length > workers) resolve(Number(port));
    });
  });
  const port = await soon(child, 'gunicorn', listening).catch((error) => {
    throw new Error(`gunicorn said: ${said}`, { cause: error });
  });
  return { port, pids };
}

const childrenOf = (pid: number): number[] =>
  readFileSync(`/proc/${pid}/task/${pid}/children`, 'latin1').split(' ').filter(Boolean).map(Number);

function endAfter(until: Ending, child: ChildProcess): void {
  undoAfter(until, async () => {
    if (child.exitCode !== null || child.signalCode !== null) return;
    const gone = once(child, 'exit');
    child.kill('SIGTERM');
    await gone;
  });
}

async function soon<T>(child: ChildProcess, name: string, started: Promise<T>): Promise<T> {
  const late = AbortSignal.timeout(STARTS_WITHIN_MS);
  return Promise.race([
    started,
    once(child, 'exit').then(([code]) => Promise.reject(new Error(`${name} ended with ${code}`))),
    once(late, 'abort').then(() => Promise.reject(new Error(`${name} did not start`))),
  ]);
}

function askAt(port: number, ca: string, until: Ending): Ask {
  const agent = new Agent({ keepAlive: true, maxSockets: 8 });
  undoAfter(until, () => agent.destroy());
  return async (method, path, headers = {}, json) => {
    const body = json === undefined ? '' : JSON.stringify(json);
    const entity = { 'content-length': Buffer.byteLength(body), ...(body && { 'content-type': 'application/json' }) };
    const sent = request({ host: '127.0.0.1', servername: 'localhost', port, ca, agent, method, path, headers: { ...entity, ...headers } });
    sent.end(body);
    const [answer] = await once(sent, 'response');
    const text = (await answer.toArray()).join('');
    const isJson = /json/.test(answer.headers['content-type'] ?? '');
    return { status: answer.statusCode, headers: answer.headers, json: isJson ? JSON.parse(text) : undefined };
  };
}
