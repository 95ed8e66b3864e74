import type { Running } from './running.ts';
import type { Order, Word } from './workers.ts';
import { setForReading, setForServing } from './engine-flags.ts';

setForReading();
const [{ start }, { dieOfFaults }, { serverLog }] = await Promise.all([
  import('./start.ts'),
  import('./die-of-faults.ts'),
  import('./lib/server-log.ts'),
]);

let running: Running | undefined;

serverLog.setBindings({ worker: process.pid });
dieOfFaults(() => running?.lastWords());
// A terminal sends these to all processes of a command: the parent has them too, and says what is to be done.
for (const signal of ['SIGINT', 'SIGHUP'] as const) process.on(signal, () => {});
process.on('SIGTERM', () => void stop());
process.once('disconnect', orphaned);
if (!process.connected) orphaned();
process.on('message', (order: Order) => {
  if (order === 'stop') return void stop();
  if (order === 'reload') return void running?.reload();
  return void ('begin' in order ? begin(order.begin) : read(order.read));
});

async function begin({ env, flags, port }: Extract<Order, { begin: unknown }>['begin']): Promise<void> {
  const started = await start({ mode: 'serve', env, flags, worker: { port } });
  setForServing();
  if ('mistakes' in started) return tell({ mistakes: started.mistakes }, () => process.exit(2));
  running = started;
  const { issuer, address, notes, hasUsers, files } = running;
  tell({ ready: { issuer, address, notes, hasUsers, files } });
  setInterval(tell, ALIVE_MS, 'alive').unref();
}

async function read(number: number): Promise<void> {
  const pages = running?.pages;
  if (pages) tell({ read: number, detail: await pages.detail(), metrics: await pages.metrics() });
}

async function stop(): Promise<void> {
  await running?.stop();
  process.exit(0);
}

/** The parent is dead, and whoever starts another needs the port. */
function orphaned(): void {
  running?.lastWords();
  process.exit(1);
}

/** To a parent that has just died there is nothing to say. */
function tell(word: Word, told: () => void = () => {}): void {
  process.send?.(word, undefined, undefined, told);
}

const ALIVE_MS = 1_000;
