import { setTimeout as wait } from 'node:timers/promises';
import { openCluster } from '../support/cluster.ts';
import { startFaultProxy } from '../support/fault-proxy.ts';
import { type Program, until } from '../support/program.ts';
import { startRedis } from '../support/redis.ts';
import { scrape } from '../support/scrape.ts';
import { findings, type Findings, p99, type Scene, type Seen } from './fault.ts';
import { isShared, LIMIT } from './limits.ts';
import { residentMb } from './resident.ts';
import { livingAndEnded } from './sessions.ts';

/** How Redis is slow: every answer late, none, or nothing in one direction. */
export type Slowness = '200 ms' | '2 s' | 'stalled' | 'SIGSTOP' | 'nothing gets there' | 'nothing comes back';

const TIMEOUT_MS = 1_000;
const CLIENTS = 20;
/** An answer that did not wait for anybody. */
const AT_ONCE_MS = 50;

/**
 * Redis is slow, or not heard of, while requests come: each is answered within the time that is set for Redis, by nobody's
 * leave but a living session's, and after a few nobody waits any more. Then Redis is as ever, and so is the server.
 * @param requests at each slowness.
 */
export async function slowRedis(t: Scene, requests: number, ways: readonly Slowness[]): Promise<Seen> {
  const found = findings();
  const redis = await startRedis();
  t.after(redis.stop);
  const proxy = await startFaultProxy(t, redis.port);
  const cluster = await openCluster(t, {
    REDIS_URL: `redis://127.0.0.1:${proxy.port}`,
    REDIS_TIMEOUT: `${TIMEOUT_MS} ms`,
    DEFAULT_LIMITS: `${LIMIT} per hour by ip`,
    PROTECTED_LIMITS: '1000000 per hour by ip',
    ADMIN_LISTEN: '127.0.0.1:0',
  });
  await cluster.addAlice();
  const program = await cluster.start('one');
  const other = await cluster.start('other'); // so that a share is less than a limit
  await until(() => isShared([program]));
  await wait(2_500);
  await ask(program, 400, await livingAndEnded(program), findings());

  const make: Record<Slowness, () => void> = {
    '200 ms': () => proxy.be({ latencyMs: { up: 100, down: 100 } }),
    '2 s': () => proxy.be({ latencyMs: { up: 1_000, down: 1_000 } }),
    stalled: () => proxy.be({ held: 'both' }),
    SIGSTOP: redis.freeze,
    'nothing gets there': () => proxy.be({ held: 'up' }),
    'nothing comes back': () => proxy.be({ held: 'down' }),
  };
  for (const [i, way] of ways.entries()) {
    const tokens = await livingAndEnded(program, other);
    const before = { memory: residentMb(program.pid), lags: await lags(program) };
    make[way]();
    const answers = await ask(program, requests, tokens, found);
    // Whoever is refused waits twice: that a token was none is counted, too. So he is shown for himself.
    if (way === '200 ms') {
      const those = (isIn: boolean) => answers.filter(({ status }) => (status === 200) === isIn).map(({ tookMs }) => tookMs);
      found.most(`${way}: p99 ms`, p99(those(true)));
      found.most(`${way}: p99 of refused, ms`, p99(those(false)));
    } else {
      found.most(`${way}: slowest ms`, Math.max(...answers.map(({ tookMs }) => tookMs)));
      found.most(`${way}: at once after ms`, answers.find(({ tookMs }) => tookMs < AT_ONCE_MS)?.atMs ?? Infinity);
    }
    found.most('memory more, MiB', residentMb(program.pid) - before.memory);
    found.most('seconds with a lag of over 50 ms', (await lags(program)) - before.lags);

    proxy.heal();
    redis.thaw();
    const began = performance.now();
    await until(() => isShared([program]));
    found.most('limits shared again, slowest ms', performance.now() - began);
    t.progress?.(i + 1, ways.length);
  }
  return found.seen();
}

type Took = { readonly status: number; readonly atMs: number; readonly tookMs: number };

/** Asks so often, some at a time, with a session that lives and one that does not; when each was asked, and how long it took. */
async function ask(
  program: Program,
  requests: number,
  { living, ended }: { living: string; ended: string },
  found: Findings,
): Promise<Took[]> {
  const began = performance.now();
  const answers: Took[] = [];
  let left = requests;
  const client = async (_: unknown, i: number): Promise<void> => {
    while (left > 0) {
      left -= 1;
      const isLiving = (left + i) % 2 === 0;
      const since = performance.now();
      const { status, headers, json, text } = await program.ask('GET', '/protected', { bearer: isLiving ? living : ended });
      answers.push({ status, atMs: since - began, tookMs: performance.now() - since });
      const isAway = status === 503 && headers['retry-after'] !== undefined;
      if (isAway) found.add('503');
      else if (isLiving ? status !== 200 : json?.code !== 'token_revoked')
        found.wrong(`${isLiving ? 'a living' : 'an ended'} session: ${status} ${text}`);
      await wait(5);
    }
  };
  await Promise.all(Array.from({ length: CLIENTS }, client));
  found.add('answers', answers.length);
  return answers.toSorted((a, b) => a.atMs - b.atMs);
}

/** In how many seconds so far anything had to wait longer than 50 ms for its turn. */
async function lags(program: Program): Promise<number> {
  const { value } = await scrape(program);
  const all = value('portcullis_event_loop_delay_seconds_count') ?? 0;
  return all - (value('portcullis_event_loop_delay_seconds_bucket', { le: '0.05' }) ?? 0);
}
