import { getCompileCacheDir } from 'node:module';
import { availableParallelism } from 'node:os';
import { dirname, extname } from 'node:path';
import { Worker } from 'node:worker_threads';
import { Problem, stopwatch } from '@portcullis/guard';
import type { HashAnswer, HashRequest } from './hash-worker.ts';
import { type Histogram, histogram } from './histogram.ts';

export type HashPoolOptions = {
  /** How many passwords are hashed at a time. Default: one core fewer than there are, divided among the `sharers`, at least one. */
  readonly threads?: number;
  /** How many processes of this machine have such a pool. Default: 1. */
  readonly sharers?: number;
  /** How many more may wait. Default: 64. */
  readonly maxWaiting?: number;
  /** How long one of them may wait. Default: 2,000. */
  readonly maxWaitMs?: number;
};

/**
 * Passwords are taken as their UTF-8 bytes, all of them: nothing is trimmed, normalised or cut off, and a NUL counts.
 * A lone surrogate has no UTF-8 and would become U+FFFD; the schema of the body refuses it before it gets here.
 *
 * `hash` and `verify` both reject with
 * - the {@link Problem} `server_busy` (with `Retry-After`) if too many wait, the wait is too long, the thread died or the pool is closed,
 * - `signal.reason` if the caller goes while waiting; a hash already begun is finished.
 */
export type HashPool = {
  /** A PHC string with a salt of its own. */
  hash(password: string, signal?: AbortSignal): Promise<string>;
  /**
   * Costs one hash, also if there is nobody (`phc` is `undefined`), and is then false.
   * @throws {Error} if `phc` is not a PHC string of argon2: a fault of ours, not a wrong password.
   */
  verify(password: string, phc: string | undefined, signal?: AbortSignal): Promise<boolean>;
  /** @throws {Problem} `server_busy` when the next one would be refused at once. */
  assertRoom(): void;
  waiting(): number;
  /** How many are being hashed, of at most so many at a time. */
  running(): { readonly now: number; readonly atMost: number };
  /** Since the start. `hash` and `verify` are one hash each; `refused` got `server_busy`. */
  done(): { readonly hashes: number; readonly refused: number };
  /** How long those that were served had waited. */
  readonly waits: Histogram;
  /** Refuses whoever waits or is being served, and ends the threads. */
  close(): Promise<void>;
};

/**
 * argon2id in threads of its own. libuv's pool, which WebCrypto and the file system share, is left alone:
 * four hashes in there make a token check wait for all of them. The threads start at once and never keep the process
 * alive but while they hash.
 */
export function hashPool({
  sharers = 1,
  threads = Math.max(1, Math.floor((availableParallelism() - 1) / sharers)),
  maxWaiting = 64,
  maxWaitMs = 2_000,
}: HashPoolOptions = {}): HashPool {
  /** In order of arrival; the value takes its job out again. */
  const queue = new Map<Job, () => void>();
  const crew = Array.from({ length: threads }, () => hashThread(next));
  const waits = histogram([0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2]);
  let hashes = 0;
  let refused = 0;
  let closed = false;

  return {
    hash: async (password, signal) => String(await ask({ does: 'hash', password }, signal)),
    verify: async (password, phc, signal) => (await ask({ does: 'verify', password, phc }, signal)) === true,
    assertRoom,
    waiting: () => queue.size,
    running: () => ({ now: crew.filter((thread) => !thread.isFree()).length, atMost: threads }),
    done: () => ({ hashes, refused }),
    waits,
    async close() {
      closed = true;
      for (let job = next(); job; job = next()) job.reject(busy('closing', 1));
      await Promise.all(crew.map((thread) => thread.stop()));
    },
  };

  async function ask(request: HashRequest, signal?: AbortSignal): Promise<string | boolean> {
    try {
      return await serve(request, signal);
    } catch (error) {
      if (error instanceof Problem && error.code === 'server_busy') refused += 1;
      throw error;
    }
  }

  async function serve(request: HashRequest, signal?: AbortSignal): Promise<string | boolean> {
    signal?.throwIfAborted();
    assertRoom();
    const { promise, resolve, reject } = Promise.withResolvers<HashAnswer>();
    const job: Job = { request, since: stopwatch(), resolve, reject };
    const free = crew.find((thread) => thread.isFree());
    if (free) {
      waits.observe(0);
      free.take(job);
    } else wait(job, signal);

    const answer = await promise;
    hashes += answer.hashes;
    if ('fault' in answer) throw new Error(`argon2: ${answer.fault}`);
    return answer.result;
  }

  function assertRoom(): void {
    if (closed) throw busy('closed', 1);
    if (queue.size >= maxWaiting && !crew.some((thread) => thread.isFree())) throw busy(`${maxWaiting} are waiting`, 1);
  }

  function wait(job: Job, signal?: AbortSignal): void {
    const giveUp = (why: unknown) => {
      leave();
      job.reject(why);
    };
    const onAbort = () => giveUp(signal?.reason);
    const timer = setTimeout(() => giveUp(busy(`waited ${maxWaitMs} ms`, 2)), maxWaitMs).unref();
    const leave = () => {
      queue.delete(job);
      clearTimeout(timer);
      signal?.removeEventListener('abort', onAbort);
    };
    signal?.addEventListener('abort', onAbort);
    queue.set(job, leave);
  }

  function next(): Job | undefined {
    const [first] = queue;
    if (!first) return undefined;
    const [job, leave] = first;
    leave();
    waits.observe((stopwatch() - job.since) / 1_000);
    return job;
  }
}

type Job = {
  readonly request: HashRequest;
  /** By the stopwatch. */
  readonly since: number;
  readonly resolve: (answer: HashAnswer) => void;
  readonly reject: (why: unknown) => void;
};

/** Where this file was loaded from says which form its neighbour has: .ts as written, .js as published. */
const workerUrl = new URL(`hash-worker${extname(import.meta.filename)}`, import.meta.url);

/** A worker does not share what its process keeps compiled unless it is told; without it, it spends 16 MB on a reader of TypeScript. */
const cache = getCompileCacheDir();
const compiled = cache !== undefined && { NODE_COMPILE_CACHE: dirname(cache) };

/** One worker, and the job it has. A worker that died is replaced when the next job comes, so one that cannot start is not started in a loop. */
function hashThread(next: () => Job | undefined) {
  let job: Job | undefined;
  let worker: Worker | undefined = start();

  return {
    isFree: () => job === undefined,
    take,
    async stop() {
      await worker?.terminate();
    },
  };

  function take(taken: Job): void {
    job = taken;
    worker ??= start();
    worker.ref();
    worker.postMessage(job.request);
  }

  function start(): Worker {
    let trouble = '';
    // Neither the process's environment, whose secrets are none of its business, nor its flags, some of which stop a worker.
    const started = new Worker(workerUrl, { name: 'password hash', env: { ...compiled }, execArgv: [] });
    started.on('message', (answer: HashAnswer) => finish((done) => done.resolve(answer)));
    started.on('error', (error: unknown) => {
      trouble = `: ${error instanceof Error ? error.message : 'unknown'}`;
    });
    started.on('exit', () => {
      worker = undefined;
      finish((done) => done.reject(busy(`a hash worker died${trouble}`, 1)));
    });
    started.unref();
    return started;
  }

  function finish(settle: (done: Job) => void): void {
    const done = job;
    job = undefined;
    worker?.unref();
    const following = next();
    if (following) take(following);
    if (done) settle(done);
  }
}

function busy(reason: string, retryAfterS: number): Problem<'server_busy'> {
  return new Problem('server_busy', reason, { retryAfterS });
}
