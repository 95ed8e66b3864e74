import assert from 'node:assert/strict';
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { certificate } from '../wire/support.ts';
import { type Postgres, startPostgres } from './postgres.ts';
import { type Ending, folderFor, type Program, runCommand, startProgram, undoAfter, wideLimits } from './program.ts';

export const alice = { username: 'alice', password: 'a long sentence is a good password' };

/** What instances share, before any of them is started: a database of their own, a certificate, their settings. */
export type Cluster = {
  readonly postgres: Postgres;
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
  const shared = {
    ...wideLimits,
    DATABASE_URL: await postgres.newDatabase(),
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
    run,
    start(name, { settings = {}, env = {} } = {}) {
      const own = join(folder, name);
      mkdirSync(own, { recursive: true });
      return startProgram(t, { command: 'serve', folder: own, settings: { ...shared, ...settings }, env, ca: certificate.cert });
    },
    addAlice: async () => void (await run('users', 'add', alice.username, '--password-stdin')),
  };
}

/** Two servers of one issuer and one database, and a user. */
export async function startCluster(
  t: Ending,
  more: Record<string, string> = {},
): Promise<Cluster & { readonly one: Program; readonly other: Program }> {
  const cluster = await openCluster(t, more);
  const [one, other] = await Promise.all([cluster.start('one'), cluster.start('other')]); // at once: one makes the tables and the key
  await cluster.addAlice();
  return { ...cluster, one, other };
}
