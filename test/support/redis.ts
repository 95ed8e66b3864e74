import { type ChildProcess, execFile, spawn, spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as wait } from 'node:timers/promises';
import { promisify } from 'node:util';
import { createClient } from '@redis/client';
import { freePort } from './free-port.ts';

/** A Redis of the test's own, on a free port of loopback; nothing is kept unless it is asked for. */
export type Redis = {
  readonly port: number;
  readonly url: string;
  start(): Promise<void>;
  /** SIGKILL. `start` brings it back on the same port. */
  kill(): Promise<void>;
  /** SIGSTOP and SIGCONT: it hangs, with its connections open. */
  freeze(): void;
  thaw(): void;
  /** One command over a connection of its own, as `redis-cli` sends it. */
  tell(...words: readonly string[]): Promise<string>;
  stop(): Promise<void>;
};

export const isRedisHere = spawnSync('redis-server', ['--version']).status === 0;

const run = promisify(execFile);

/** @param more settings of `redis.conf`, by name. @param sentinel what a sentinel is told, in place of what a Redis is. */
export async function startRedis(more: Readonly<Record<string, string>> = {}, sentinel?: readonly string[]): Promise<Redis> {
  const folder = mkdtempSync(join(tmpdir(), 'portcullis-redis-'));
  const port = await freePort();
  const url = `redis://127.0.0.1:${port}`;
  let server: ChildProcess | undefined;

  async function start(): Promise<void> {
    const own = { port: String(port), bind: '127.0.0.1', dir: folder };
    const file = join(folder, 'sentinel.conf'); // it writes down there what it learns
    if (sentinel) writeFileSync(file, [...Object.entries(own).map((words) => words.join(' ')), ...sentinel, ''].join('\n'));
    const flags = Object.entries({ ...own, save: '', ...more }).flatMap(([name, value]) => [`--${name}`, value]);
    server = spawn('redis-server', sentinel ? [file, '--sentinel'] : flags, { stdio: 'ignore' });
    const client = createClient({ url, socket: { reconnectStrategy: 20 } }).on('error', () => {});
    await client.connect();
    await client.close();
  }

  async function end(signal: NodeJS.Signals): Promise<void> {
    const current = server;
    if (!current || current.exitCode !== null || current.signalCode !== null) return;
    const gone = new Promise((done) => current.once('exit', done));
    current.kill('SIGCONT');
    current.kill(signal);
    await gone;
  }

  await start();
  return {
    port,
    url,
    start,
    kill: () => end('SIGKILL'),
    freeze: () => void server?.kill('SIGSTOP'),
    thaw: () => void server?.kill('SIGCONT'),
    async tell(...words) {
      const { stdout } = await run('redis-cli', ['-p', String(port), ...words]);
      return stdout.trim();
    },
    async stop() {
      await end('SIGTERM');
      rmSync(folder, { recursive: true, force: true });
    },
  };
}

/** Masters without replicas, each with its share of the slots. */
export type RedisCluster = { readonly url: string; readonly nodes: readonly Redis[]; stop(): Promise<void> };

/** @param spare more nodes, that know the others and have no slots. */
export async function startRedisCluster(masters = 3, spare = 0): Promise<RedisCluster> {
  const nodes = await all(masters + spare, async () =>
    startRedis({
      'cluster-enabled': 'yes',
      'cluster-port': String(await freePort()),
      'cluster-node-timeout': '2000',
      'cluster-require-full-coverage': 'no',
    }),
  );
  const [first] = nodes as [Redis, ...Redis[]];
  const owners = nodes.slice(0, masters);
  const share = Math.ceil(16_384 / masters);
  await Promise.all(
    owners.map((node, i) => node.tell('cluster', 'addslotsrange', `${i * share}`, `${Math.min((i + 1) * share, 16_384) - 1}`)),
  );
  for (const [i, node] of nodes.entries()) await node.tell('cluster', 'set-config-epoch', String(i + 1));
  for (const { port } of nodes.slice(1)) await first.tell('cluster', 'meet', '127.0.0.1', String(port), await busOf(nodes, port));
  for (const node of nodes) {
    while (!(await node.tell('cluster', 'info')).includes(`cluster_state:ok`) || (await knownTo(node)) < nodes.length) await wait(50);
  }
  return {
    url: `redis+cluster://${owners.map(({ port }) => `127.0.0.1:${port}`).join(',')}`,
    nodes,
    stop: async () => void (await Promise.all(nodes.map(({ stop }) => stop()))),
  };
}

const busOf = async (nodes: readonly Redis[], port: number): Promise<string> =>
  /@(\d+)/.exec((await nodes.find((node) => node.port === port)?.tell('cluster', 'nodes')) ?? '')?.[1] ?? '';

const knownTo = async (node: Redis): Promise<number> => Number(/cluster_known_nodes:(\d+)/.exec(await node.tell('cluster', 'info'))?.[1]);

/** A master with its replicas, and sentinels that watch them. */
export type RedisWatched = {
  readonly url: string;
  readonly nodes: readonly Redis[];
  readonly sentinels: readonly Redis[];
  stop(): Promise<void>;
};

/** The first of the nodes begins as the master; the sentinels are of one mind when two of three are. */
export async function startSentinels(): Promise<RedisWatched> {
  const master = await startRedis({ 'repl-diskless-sync-delay': '0' });
  const replica = await startRedis({ replicaof: `127.0.0.1 ${master.port}`, 'repl-diskless-sync-delay': '0' });
  while (!(await master.tell('role')).includes(String(replica.port))) await wait(50);
  const sentinels = await all(3, () =>
    startRedis({}, [
      `sentinel monitor mymaster 127.0.0.1 ${master.port} 2`,
      'sentinel down-after-milliseconds mymaster 600',
      'sentinel failover-timeout mymaster 3000',
    ]),
  );
  for (const sentinel of sentinels) {
    const knows = async (what: string): Promise<boolean> =>
      new RegExp(`^${what}\n`, 'm').test(await sentinel.tell('sentinel', 'master', 'mymaster'));
    while (!(await knows('num-other-sentinels\n2')) || !(await knows('num-slaves\n1'))) await wait(50);
  }
  const every = [...sentinels, replica, master];
  return {
    url: `redis+sentinel://${sentinels.map(({ port }) => `127.0.0.1:${port}`).join(',')}/mymaster`,
    nodes: [master, replica],
    sentinels,
    stop: async () => void (await Promise.all(every.map(({ stop }) => stop()))),
  };
}

const all = <T>(times: number, make: () => Promise<T>): Promise<T[]> => Promise.all(Array.from({ length: times }, make));
