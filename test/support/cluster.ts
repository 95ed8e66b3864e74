import assert from 'node:assert/strict';
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { certificate } from '../wire/support.ts';
import { type Postgres, startPostgres } from './postgres.ts';
import { type Redis, startRedis } from './redis.ts';
import { type Ending, folderFor, type Program, runCommand, startProgram, undoAfter, wideLimits } from './program.ts';

export const alice = { username: 'alice', password: 'a long sentence is a good password' };

/** What instances share, before any of them is started: a database of their own, a certificate, their settings. */
export type Cluster = {
  readonly postgres: Postgres;
  /** The URL of the database. */
  readonly database: string;
  /** What each instance is started with, by bare names. */
  readonly settings: Readonly<Record<string, string>>;
  /** Starts an instance with a data folder of this name, or starts it again. */
  start(name: string, more?: { settings?: Record<string, string>; env?: Record<string, string> }): Promise<Program>;
  /** Runs a command, as an operator would; gives what it says as JSON. */
  run(...args: string[]): Promise<any>;
  addAlice(): Promise<void>;
};

/** @param more settings by their bare names. */
export async function openCluster(t: Ending, more: Record<string, string> = {}): Promise<Cluster> {
  const postgres = await startPostgres();
  undoAfter(t, postgres.stop);
  const folder = folderFor(t);
  const [key, cert] = [join(folder, 'key.pem'), join(folder, 'cert.pem')];
  writeFileSync(key, certificate.key);
  writeFileSync(cert, certificate.cert);
  const database = await postgres.newDatabase();
  const shared = {
    ...wideLimits,
    DATABASE_URL: database,
    DATABASE_TIMEOUT: '1 s',
    ISSUER: 'https://localhost',
    MASTER_SECRET: 'q3ZkT0v9yX7uB1nLw5cRj8sHd2fGm6aE4pKi',
    TLS_KEY_FILE: key,
    TLS_CERT_FILE: cert,
    ...more,
  };
  const run = async (...args: string[]) => {
    const env = Object.fromEntries(Object.entries({ ...shared, DATA_DIR: folder }).map(([name, value]) => [`PORTCULLIS_${name}`, value]));
    const { code, stdout, stderr } = await runCommand([...args.slice(0, 2), '--json', ...args.slice(2)], { env, input: alice.password });
    assert.equal(code, 0, stderr);
    return JSON.parse(stdout);
  };
  return {
    postgres,
    database,
    settings: shared,
    run,
    start(name, { settings = {}, env = {} } = {}) {
      const own = join(folder, name);
      mkdirSync(own, { recursive: true });
      return startProgram(t, { command: 'serve', folder: own, settings: { ...shared, ...settings }, env, ca: certificate.cert });
    },
    addAlice: async () => void (await run('users', 'add', alice.username, '--password-stdin')),
  };
}

/** The same with a Redis, and a user. */
export async function openSharedCluster(t: Ending, more: Record<string, string> = {}): Promise<Cluster & { readonly redis: Redis }> {
  const redis = await startRedis();
  undoAfter(t, redis.stop);
  const cluster = await openCluster(t, { REDIS_URL: redis.url, ...more });
  await cluster.addAlice();
  return { ...cluster, redis };
}

export type Pair = Cluster & { readonly one: Program; readonly other: Program };

/** Two servers of one issuer and one database, and a user. */
export async function startCluster(t: Ending, more: Record<string, string> = {}): Promise<Pair> {
  const cluster = await openCluster(t, more);
  const [one, other] = await Promise.all([cluster.start('one'), cluster.start('other')]); // at once: one makes the tables and the key
  await cluster.addAlice();
  return { ...cluster, one, other };
}
