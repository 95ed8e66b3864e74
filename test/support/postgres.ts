import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { chmodSync, chownSync, globSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { TestContext } from 'node:test';
import pg from 'pg';
import { freePort } from './free-port.ts';

/** A PostgreSQL of the test's own, on a free port of loopback. */
export type Postgres = {
  readonly port: number;
  /** Where its unix socket is. */
  readonly folder: string;
  /** A new, empty database, which goes when the test ends. */
  newDatabase(t?: TestContext): Promise<string>;
  /** Runs one statement as its superuser. @param database one of its own, unless it is said. */
  query(text: string, database?: string): Promise<pg.QueryResult>;
  /** SIGKILL, to it and to all it has started; `start` brings it back on the same port and data. */
  kill(): Promise<void>;
  /** Stopped at once, connections cut (`immediate`), or without them (`fast`). */
  halt(how: 'immediate' | 'fast'): Promise<void>;
  start(): Promise<void>;
  /** SIGSTOP and SIGCONT to it and all it has started: it hangs. */
  freeze(): void;
  thaw(): void;
  stop(): Promise<void>;
};

const USER = 'portcullis';
const bin = globSync('/usr/lib/postgresql/*/bin').toSorted().at(-1);

export const isPostgresHere = bin !== undefined;

/**
 * @param auth how it asks who comes; with a password, `trust` does not.
 * @param tls its certificate and key as PEM; over TCP it then lets nobody in without TLS.
 */
export async function startPostgres(
  auth: 'trust' | 'scram-sha-256' = 'trust',
  password = '',
  tls?: { readonly cert: string; readonly key: string },
): Promise<Postgres> {
  if (!bin) throw new Error('PostgreSQL is not installed');
  const folder = mkdtempSync(join(tmpdir(), 'portcullis-pg-'));
  const data = join(folder, 'data');
  const account = process.getuid?.() === 0 ? accountOf('postgres') : undefined; // it refuses to run as root
  if (account) chownSync(folder, account.uid, account.gid);
  chmodSync(folder, 0o755);
  const secret = join(folder, 'password');
  writeFileSync(secret, `${password}\n`, { mode: 0o644 });
  const asked = password === '' ? [] : [`--pwfile=${secret}`];
  execFileSync(join(bin, 'initdb'), ['-D', data, '-U', USER, '-A', auth, ...asked, '-E', 'UTF8', '--no-sync', '--locale=C'], {
    ...account,
    cwd: folder,
    stdio: 'ignore',
  });
  if (tls) {
    for (const [name, text] of Object.entries(tls)) {
      const file = join(data, `${name}.pem`);
      writeFileSync(file, text, { mode: 0o600 });
      if (account) chownSync(file, account.uid, account.gid);
    }
    writeFileSync(join(data, 'pg_hba.conf'), `local all all ${auth}\nhostssl all all all ${auth}\n`);
  }
  const port = await freePort();
  let server: ChildProcess | undefined;
  const urlOf = (database: string): string => `postgres://${USER}@127.0.0.1:${port}/${database}`;

  async function start(): Promise<void> {
    const settings = {
      port,
      listen_addresses: '127.0.0.1',
      unix_socket_directories: folder,
      fsync: 'off',
      max_connections: 200,
      logging_collector: 'off',
      ...(tls && { ssl: 'on', ssl_cert_file: 'cert.pem', ssl_key_file: 'key.pem' }),
    };
    const args = Object.entries(settings).flatMap(([name, value]) => ['-c', `${name}=${value}`]);
    server = spawn(join(bin ?? '', 'postgres'), ['-D', data, ...args], { ...account, cwd: folder, stdio: 'ignore', detached: true });
    const until = Date.now() + 20_000;
    while (
      !(await query('select 1').then(
        () => true,
        () => false,
      ))
    ) {
      if (Date.now() > until || server.exitCode !== null) throw new Error('PostgreSQL does not start');
      await new Promise((next) => setTimeout(next, 50));
    }
  }

  async function query(text: string, database = 'postgres'): Promise<pg.QueryResult> {
    const client = new pg.Client({ host: folder, port, user: USER, password, database, connectionTimeoutMillis: 2_000 });
    try {
      await client.connect();
      return await client.query(text);
    } finally {
      await client.end().catch(() => {});
    }
  }

  /** The children have process groups of their own, so they are told one by one. */
  function signal(name: NodeJS.Signals): void {
    const pid = server?.pid;
    if (pid === undefined || server?.exitCode !== null) return;
    const children = execFileSync('sh', ['-c', `cat /proc/${pid}/task/${pid}/children 2>/dev/null || true`], { encoding: 'utf8' })
      .split(' ')
      .filter(Boolean);
    for (const one of [pid, ...children.map(Number)]) {
      try {
        process.kill(one, name);
      } catch {
        // it has ended meanwhile
      }
    }
  }

  async function ended(act: () => void): Promise<void> {
    const current = server;
    if (!current || current.exitCode !== null || current.signalCode !== null) return;
    const gone = new Promise((done) => current.once('exit', done));
    act();
    await gone;
  }

  await start();
  return {
    port,
    folder,
    async newDatabase(t) {
      const name = `t_${randomBytes(6).toString('hex')}`;
      await query(`create database ${name} strategy file_copy`);
      t?.after(() => query(`drop database if exists ${name} with (force)`).catch(() => {}));
      return urlOf(name);
    },
    query,
    kill: () => ended(() => signal('SIGKILL')),
    halt: (how) => ended(() => server?.kill(how === 'immediate' ? 'SIGQUIT' : 'SIGINT')),
    start,
    freeze: () => signal('SIGSTOP'),
    thaw: () => signal('SIGCONT'),
    async stop() {
      signal('SIGCONT');
      await ended(() => server?.kill('SIGQUIT'));
      rmSync(folder, { recursive: true, force: true });
    },
  };
}

function accountOf(name: string): { uid: number; gid: number } {
  const id = (flag: string): number => Number(execFileSync('id', [flag, name], { encoding: 'utf8' }));
  return { uid: id('-u'), gid: id('-g') };
}
