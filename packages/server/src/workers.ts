import { type ChildProcess, fork } from 'node:child_process';
import { setTimeout as wait } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { systemClock } from '@portcullis/guard';
import type { Detail } from './http/admin.ts';
import type { Family } from './lib/exposition.ts';
import { every } from './lib/every.ts';
import { IN_FLIGHT_MS } from './http/wire.ts';
import { holdFreePort } from './lib/free-port.ts';
import { serverLog } from './lib/server-log.ts';
import { version } from './lib/version.ts';
import { mergeMetrics, metrics } from './metrics.ts';
import { Mistake, openPort } from './mistake.ts';
import { listenForOperators, type OperatorPages } from './operator-pages.ts';
import type { Sources } from './settings/read.ts';
import type { Settings } from './settings/table.ts';
import type { Running } from './running.ts';

/** What a worker is told by the process that started it. `begin` comes first, and once. */
export type Order =
  | { readonly begin: Pick<Sources, 'env' | 'flags'> & { readonly port: number } }
  | { readonly read: number }
  | 'reload'
  | 'stop';

/** What it says: what came of its start, once a second that it is not stuck, and what it is asked for, by its number. */
export type Word =
  | { readonly ready: Pick<Running, 'issuer' | 'address' | 'notes' | 'hasUsers' | 'files'> }
  | { readonly mistakes: readonly string[] }
  | { readonly read: number; readonly detail: Detail; readonly metrics: readonly Family[] }
  | 'alive';

type Ready = Extract<Word, { ready: unknown }>['ready'];
type Reading = Extract<Word, { read: number }>;

type Worker = {
  readonly child: ChildProcess;
  readonly ready: Promise<Ready>;
  /** How it ended. */
  readonly gone: Promise<string>;
  /** From when on it was ready for callers. */
  servesSince: number | undefined;
  /** How often it was looked at since it last said that it is alive. */
  silent: number;
  /** What it last said of itself. */
  reading: Reading | undefined;
};

/** One that served so long was well: another is started at once. */
const WELL_MS = 10_000;
const FIRST_PAUSE_MS = 500;
const LONGEST_PAUSE_MS = 30_000;
/** Looks, a second apart: a worker whose event loop stands still so long answers nobody, and would keep its share of the callers. */
const MOST_SILENT = 15;
const READ_MS = 1_000;
/** Beyond what a worker itself takes to end. */
const KILL_AFTER_MS = 5_000;

/**
 * Starts `settings.workers` processes that serve on one port, and looks after them: one that ends is replaced, after a pause
 * that grows where that happens again and again. The first one starts alone, so that a mistake is found and said once.
 * This process itself serves nobody but its operators, to whom it shows all workers as one.
 * @throws {Mistake} what a worker found in the way; then none is left.
 */
export async function startWorkers({ env, flags }: Pick<Sources, 'env' | 'flags'>, settings: Settings): Promise<Running> {
  const clock = systemClock();
  const ending = new AbortController();
  const workers = new Set<Worker>();
  /** What those that are no more had counted: a sum must not fall when one of them goes. */
  let counted: readonly Family[] = [];
  let asked = 0;

  await using held = new AsyncDisposableStack();
  held.defer(end);
  // The kernel shares a port among all who ask for that, also with a second server that was started by mistake: this one does not ask.
  const chosen = { host: 'PORTCULLIS_HOST', port: 'PORTCULLIS_PORT' };
  await openPort(chosen, async () => (await holdFreePort(settings.host, settings.port)).release());
  const first = launch(settings.port);
  const ready = await first.ready;
  const { port } = ready.address;
  const pages: OperatorPages = { detail, metrics: readMetrics };
  const adminAddress = settings.adminListen && (await listenForOperators(settings.adminListen, pages, held));
  const all = [first, ...Array.from({ length: settings.workers - 1 }, () => launch(port))];
  await Promise.all(all.map((worker) => worker.ready));
  for (const worker of all) void keep(worker);
  every(held, 1_000, killStuck);

  const everything = held.move();
  let ended: Promise<void> | undefined;
  return {
    ...ready,
    settings,
    adminAddress,
    pages,
    made: [],
    lastWords: () => {},
    async reload() {
      for (const { child } of workers) send(child, 'reload');
    },
    stop: () => (ended ??= end().then(() => everything.disposeAsync())),
  };

  function launch(onPort: number): Worker {
    const child = fork(program, { serialization: 'advanced' });
    const { promise: ready, resolve, reject } = Promise.withResolvers<Ready>();
    const { promise: gone, resolve: goes } = Promise.withResolvers<string>();
    const worker: Worker = { child, ready, gone, servesSince: undefined, silent: 0, reading: undefined };
    workers.add(worker);
    ready.catch(() => {}); // whoever keeps it hears of its end
    child.on('message', (word: Word) => {
      worker.silent = 0;
      if (word === 'alive') return;
      if ('mistakes' in word) return reject(new Mistake(...word.mistakes));
      if ('read' in word) return void (worker.reading = word);
      worker.servesSince = clock.now();
      resolve(word.ready);
    });
    child.on('error', (error) => leave(error.message)); // it could not be started, or be told something
    child.once('exit', (code, signal) => leave(signal ?? `exit code ${code}`));
    send(child, { begin: { env, flags, port: onPort } });
    return worker;

    function leave(why: string): void {
      if (child.exitCode === null && child.signalCode === null && child.pid !== undefined) return; // it is still there
      workers.delete(worker);
      counted = mergeMetrics([counted, counters(worker.reading)]);
      reject(new Error(`a worker ended while it started (${why})`));
      goes(why);
    }
  }

  async function keep(worker: Worker): Promise<void> {
    for (let pauseMs = 0; !ending.signal.aborted;) {
      const why = await worker.gone;
      if (ending.signal.aborted) return;
      pauseMs =
        clock.now() - (worker.servesSince ?? Infinity) >= WELL_MS ? 0 : Math.min(LONGEST_PAUSE_MS, Math.max(FIRST_PAUSE_MS, 2 * pauseMs));
      counted = mergeMetrics([counted, shown('portcullis_workers_replaced_total', 1)]);
      serverLog.error({ worker: worker.child.pid, why, pauseMs }, 'a worker has ended: another takes its place');
      await wait(pauseMs, undefined, { signal: ending.signal, ref: false }).catch(() => {});
      if (ending.signal.aborted) return;
      worker = launch(port);
      await worker.ready.then(
        () => serverLog.info({ worker: worker.child.pid }, 'a worker serves in its place'),
        (error: unknown) => serverLog.error({ worker: worker.child.pid, why: String(error) }, 'a worker could not start'),
      );
    }
  }

  function killStuck(): void {
    for (const worker of workers) {
      if (worker.servesSince === undefined || ending.signal.aborted || ++worker.silent < MOST_SILENT) continue;
      serverLog.error({ worker: worker.child.pid }, 'a worker is stuck: it is killed');
      worker.child.kill('SIGKILL');
    }
  }

  /** All of them, however far they are; who does not end in time is killed. */
  async function end(): Promise<void> {
    ending.abort();
    const left = [...workers];
    for (const { child } of left) send(child, 'stop');
    const timer = setTimeout(
      () => left.forEach(({ child }) => child.kill('SIGKILL')),
      settings.shutdownDelayMs + IN_FLIGHT_MS + KILL_AFTER_MS,
    );
    await Promise.all(left.map(({ gone }) => gone));
    clearTimeout(timer);
  }

  /** What each worker says of itself now; of one that does not say it in time, `undefined`. */
  async function readAll(): Promise<(readonly [Worker, Reading | undefined])[]> {
    const number = ++asked;
    const serving = [...workers].filter(({ servesSince }) => servesSince !== undefined);
    const isIn = ({ reading }: Worker): boolean => reading?.read === number;
    for (const { child } of serving) send(child, { read: number });
    const until = clock.now() + READ_MS;
    while (clock.now() < until && !serving.every((worker) => isIn(worker) || !workers.has(worker))) await wait(5);
    return serving.filter((worker) => workers.has(worker)).map((worker) => [worker, isIn(worker) ? worker.reading : undefined] as const);
  }

  async function detail(): ReturnType<OperatorPages['detail']> {
    const all = await readAll();
    return {
      ready: !ending.signal.aborted && all.some(([, reading]) => reading?.detail.ready),
      ...(ending.signal.aborted && { why: 'draining' }),
      version,
      workers: all.map(([{ child }, reading]) => ({ pid: child.pid, ...(reading?.detail ?? { ready: false, why: 'no answer' }) })),
    };
  }

  async function readMetrics(): Promise<Family[]> {
    const all = await readAll();
    const now = all.map(([worker, reading]) => reading?.metrics ?? counters(worker.reading));
    return mergeMetrics([...now, counted, shown('portcullis_workers', 0), shown('portcullis_ready', 0)]);
  }
}

const program = fileURLToPath(new URL('./worker.ts', import.meta.url));

/** To one that is just ending there is nothing to say. */
const send = (child: ChildProcess, order: Order): void => void (child.connected && child.send(order, () => {}));

const counters = (reading: Reading | undefined): Family[] => reading?.metrics.filter(({ type }) => type !== 'gauge') ?? [];

/** A metric of this process's own. */
const shown = (name: string, value: number): Family[] =>
  metrics.flatMap((metric) =>
    metric.name === name && metric.type !== 'histogram' ? [{ name, help: metric.help, type: metric.type, samples: [{ value }] }] : [],
  );
