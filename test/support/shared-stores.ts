import assert from 'node:assert/strict';
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { certificate } from '../wire/support.ts';
import { type Ending, folderFor, type Program, runCommand, startProgram, undoAfter, wideLimits } from './program.ts';
import { type Postgres, startPostgres } from './postgres.ts';
import { type Redis, startRedis } from './redis.ts';

/** A PostgreSQL and a Redis of the test's own, with one user on them; what each instance is started with stands in `settings`. */
export type SharedStores = {
  readonly postgres: Postgres;
  readonly redis: Redis;
  readonly settings: Readonly<Record<string, string>>;
  /** `portcullis serve` on them, with a data folder of its own by this name. */
  start(name: string, more?: { settings?: Record<string, string>; env?: Record<string, string> }): Promise<Program>;
  /** A command of the operator's; its answer. */
  run(...args: string[]): Promise<any>;
};

export const alice = { username: 'alice', password: 'a long sentence is a good password' };

/** It ends with the test. @param more settings of all instances, by their bare names. */
export async function startSharedStores(t: Ending, more: Record<string, string> = {}): Promise<SharedStores> {
  const folder = folderFor(t);
  const [postgres, redis] = await Promise.all([startPostgres(), startRedis()]);
  undoAfter(t, () => redis.stop());
  undoAfter(t, () => postgres.stop());
  const [key, cert] = [join(folder, 'key.pem'), join(folder, 'cert.pem')];
  writeFileSync(key, certificate.key);
  writeFileSync(cert, certificate.cert);
  const settings = {
    ...wideLimits,
    DATABASE_URL: await postgres.newDatabase(),
    REDIS_URL: redis.url,
    ISSUER: 'https://localhost',
    MASTER_SECRET: 'q3ZkT0v9yX7uB1nLw5cRj8sHd2fGm6aE4pKi',
    TLS_KEY_FILE: key,
    TLS_CERT_FILE: cert,
    ...more,
  };
  const run = async (...args: string[]) => {
    const env = Object.fromEntries(Object.entries({ ...settings, DATA_DIR: folder }).map(([name, value]) => [`PORTCULLIS_${name}`, value]));
    const { code, stdout, stderr } = await runCommand([...args.slice(0, 2), '--json', ...args.slice(2)], { env, input: alice.password });
    assert.equal(code, 0, stderr);
    return JSON.parse(stdout);
  };
  await run('users', 'add', alice.username, '--password-stdin');

  return {
    postgres,
    redis,
    settings,
    run,
    start(name, { settings: own = {}, env = {} } = {}) {
      const data = join(folder, name);
      mkdirSync(data, { recursive: true });
      return startProgram(t, { command: 'serve', folder: data, settings: { ...settings, ...own }, env, ca: certificate.cert });
    },
  };
}
