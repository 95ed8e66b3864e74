import { availableParallelism, totalmem } from 'node:os';
import { styleText } from 'node:util';
import type { Seen } from './fault.ts';
import type { Row } from './rows.ts';

type Result = { readonly row: Row; readonly rounds: number; readonly seen: Seen; readonly tookS: number; readonly late: readonly string[] };

/**
 * Makes the faults one after the other and prints a table, or JSON. Ends the process with 1 where a bar is not held.
 * @param how.rounds in place of each row's own.
 */
export async function report(rows: readonly Row[], how: { json: boolean; rounds?: number | undefined }): Promise<void> {
  const results: Result[] = [];
  for (const row of rows) {
    const result = await make(row, how.rounds ?? row.rounds);
    results.push(result);
    say(`${label(row)}  ${mark(result)}  ${Math.round(result.tookS)} s\n`);
  }
  console.log(how.json ? JSON.stringify(plain(results), undefined, 2) : tableOf(results));
  process.exitCode = results.every(isHeld) ? 0 : 1;
}

const signals = ['SIGINT', 'SIGTERM'] as const;

async function make(row: Row, rounds: number): Promise<Result> {
  const works: (() => Promise<void> | void)[] = [];
  const began = performance.now();
  const scene = {
    after: (work: () => Promise<void> | void) => void works.push(work),
    progress: (done: number, of: number) => process.stderr.isTTY && process.stderr.write(`\r${label(row)}  ${done}/${of} `),
  };
  const why = row.needs?.map((need) => need()).find((missing) => missing !== undefined);
  const broken = Promise.withResolvers<never>();
  const breaks = (why: unknown): void => broken.reject(why instanceof Error ? why : new Error(String(why)));
  const interrupted = (signal: string): void => {
    process.exitCode = 130;
    breaks(signal);
  };
  for (const signal of signals) process.once(signal, interrupted);
  process.on('unhandledRejection', breaks);
  const seen = why
    ? { wrong: [why], figures: {} }
    : await Promise.race([row.make(scene, rounds), broken.promise]).catch((error: unknown): Seen => ({
        wrong: [error instanceof Error ? (error.stack ?? '') : String(error)],
        figures: {},
      }));
  for (const work of works.toReversed()) await work(); // what was started ends, however this did
  if (process.exitCode === 130) process.exit();
  for (const signal of signals) process.off(signal, interrupted);
  process.off('unhandledRejection', breaks);
  const late = Object.entries(row.within ?? {})
    .filter(([name, most]) => !((seen.figures[name] ?? NaN) <= most))
    .map(([name]) => name);
  return { row, rounds, seen, tookS: (performance.now() - began) / 1_000, late };
}

function isHeld({ seen, late }: Result): boolean {
  return seen.wrong.length === 0 && late.length === 0;
}

function say(text: string): void {
  process.stderr.write(`${process.stderr.isTTY ? '\r\x1b[K' : ''}${text}`);
}

function label({ no, fault }: Row): string {
  return `${String(no).padStart(2)}  ${fault}`;
}

function mark(result: Result): string {
  return isHeld(result) ? styleText('green', 'held') : styleText('red', 'not held');
}

function plain(all: readonly Result[]) {
  return {
    node: process.version,
    cores: availableParallelism(),
    memoryGiB: Math.round(totalmem() / 2 ** 30),
    rows: all.map((result) => ({
      row: result.row.no,
      fault: result.row.fault,
      rounds: result.rounds,
      ...result.seen,
      bar: result.row.bar,
      within: result.row.within ?? {},
      held: isHeld(result),
      tookS: Math.round(result.tookS),
    })),
  };
}

/** A line for each figure, so that it also fits where the window is narrow. */
function tableOf(all: readonly Result[]): string {
  const names = all.flatMap(({ seen }) => Object.keys(seen.figures).map((name) => name.length));
  const width = Math.max(0, ...names);
  const blocks = all.map((result) => {
    const { row, rounds, seen, late } = result;
    const figures = Object.entries(seen.figures).map(([name, value]) => {
      const most = row.within?.[name];
      const shown = `    ${name.padEnd(width)}  ${String(value).padStart(8)}${most === undefined ? '' : `  of at most ${most}`}`;
      return late.includes(name) ? styleText('red', shown) : shown;
    });
    const unmeasured = late.filter((name) => !(name in seen.figures)).map((name) => styleText('red', `    ${name}: not measured`));
    const wrong = seen.wrong.map((what) => styleText('red', `    ${what}`));
    return [
      `${styleText('bold', label(row))}  × ${rounds}  ${mark(result)}`,
      styleText('dim', `    ${row.bar}`),
      ...figures,
      ...unmeasured,
      ...wrong,
    ].join('\n');
  });
  const held = all.filter(isHeld).length;
  return [`Node ${process.version}, ${availableParallelism()} cores`, ...blocks, `${held} of ${all.length} held`].join('\n\n');
}
