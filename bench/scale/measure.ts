import { readdirSync, readFileSync } from 'node:fs';

/** One line of a table: what was measured at each of its sizes. */
export type Row = { readonly name: string; readonly values: readonly number[] };

/** What was measured of one thing as another grows. Values are medians of rounds in which all sizes had their turn. */
export type Slope = {
  readonly title: string;
  /** What grows. */
  readonly over: string;
  /** Names, where nothing grows. */
  readonly sizes: readonly (number | string)[];
  /** The unit of each row's values. */
  readonly unit: string;
  readonly rows: readonly Row[];
};

/**
 * CPU time of a process so far, of all the threads that it has, microseconds. Finer than a tick, which is more than most
 * of what is measured here takes; a thread that has ended is not in it.
 */
export function threadsCpuUs(pid: number): number {
  let sum = 0;
  for (const thread of readdirSync(`/proc/${pid}/task`))
    sum += Number(readFileSync(`/proc/${pid}/task/${thread}/schedstat`, 'latin1').split(' ', 1)[0]);
  return sum / 1_000;
}

/** The same of a process and all it starts meanwhile, those that have ended too, but for their last tenth of a second. */
export function watchFamily(pid: number): { cpuUs(): number; end(): void } {
  const seen = new Map<number, number>();
  function look(): void {
    const children = readFileSync(`/proc/${pid}/task/${pid}/children`, 'latin1').split(' ').filter(Boolean).map(Number);
    for (const one of [pid, ...children]) {
      try {
        seen.set(one, threadsCpuUs(one));
      } catch {
        // it has ended in this moment
      }
    }
  }
  const timer = setInterval(look, 100);
  return {
    cpuUs() {
      look();
      return [...seen.values()].reduce((sum, us) => sum + us, 0);
    },
    end: () => clearInterval(timer),
  };
}

/** CPU time of this process so far, microseconds. */
export function ownCpuUs(): number {
  const { user, system } = process.cpuUsage();
  return user + system;
}

export function median(values: readonly number[]): number {
  const sorted = values.toSorted((a, b) => a - b);
  return (sorted[Math.ceil(sorted.length / 2) - 1]! + sorted[Math.floor(sorted.length / 2)]!) / 2;
}

/** Gathers what rounds measure, by row and by the place of the size, and gives the medians in the order of the rows. */
export function gather(): { add(name: string, size: number, value: number): void; rows(): Row[] } {
  const all = new Map<string, number[][]>();
  return {
    add(name, size, value) {
      const row = all.getOrInsertComputed(name, () => []);
      (row[size] ??= []).push(value);
    },
    rows: () => [...all].map(([name, sizes]) => ({ name, values: sizes.map(median) })),
  };
}

/** In turn, and in the other order every other time: whoever comes first in a round has the cold caches. */
export async function rounds(
  count: number,
  sizes: readonly number[],
  one: (size: number, at: number, round: number) => Promise<void>,
): Promise<void> {
  for (let round = 0; round < count; round++) {
    const turns = sizes.map((size, at) => ({ size, at }));
    for (const { size, at } of round % 2 ? turns.toReversed() : turns) await one(size, at, round);
  }
}

/** At most `width` at a time. */
export async function together(count: number, width: number, one: (i: number) => Promise<unknown>): Promise<void> {
  let next = 0;
  await Promise.all(
    Array.from({ length: Math.min(width, count) }, async () => {
      while (next < count) await one(next++);
    }),
  );
}

/** Where something grows, the last column is the last size over the first. */
export function tableOf({ title, over, sizes, unit, rows }: Slope): string {
  const grows = sizes.length > 1 && sizes.every((size) => typeof size === 'number');
  const lines = [
    [over, ...sizes.map((size) => size.toLocaleString('en')), grows ? '×' : ''],
    ...rows.map(({ name, values }) => {
      const ratio = values.at(-1)! / values[0]!;
      return [name, ...values.map(shown), grows && Number.isFinite(ratio) ? shown(ratio) : ''];
    }),
  ];
  const widths = lines[0]!.map((_, column) => Math.max(...lines.map((line) => (line[column] ?? '').length)));
  const text = lines.map((line) =>
    line
      .map((cell, i) => (i ? cell.padStart(widths[i]!) : cell.padEnd(widths[i]!)))
      .join('  ')
      .trimEnd(),
  );
  return [`${title} (${unit})`, ...text].join('\n');
}

const shown = (value: number): string => value.toFixed(value === 0 || value >= 100 ? 0 : value >= 10 ? 1 : 2);
