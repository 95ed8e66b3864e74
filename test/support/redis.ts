import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
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
  /** Runs one command. */
  command(...words: string[]): Promise<unknown>;
  stop(): Promise<void>;
};

export const isRedisHere = spawnSync('redis-server', ['--version']).status === 0;

/** @param more settings of `redis.conf`, by name. */
export async function startRedis(more: Readonly<Record<string, string>> = {}): Promise<Redis> {
  const folder = mkdtempSync(join(tmpdir(), 'portcullis-redis-'));
  const port = await freePort();
  const url = `redis://127.0.0.1:${port}`;
  let server: ChildProcess | undefined;

  async function start(): Promise<void> {
    const settings = { port: String(port), bind: '127.0.0.1', dir: folder, save: '', ...more };
    server = spawn(
      'redis-server',
      Object.entries(settings).flatMap(([name, value]) => [`--${name}`, value]),
      { stdio: 'ignore' },
    );
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
    async command(...words) {
      const client = createClient({ url });
      await client.connect();
      try {
        return await client.sendCommand(words);
      } finally {
        client.destroy();
      }
    },
    async stop() {
      await end('SIGTERM');
      rmSync(folder, { recursive: true, force: true });
    },
  };
}
