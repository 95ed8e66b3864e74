import type { Ending } from '../test/support/program.ts';
import type { BesideLine } from './beside-line.ts';
import { floodLines } from './beside/flood.ts';
import { loginLines } from './beside/logins.ts';
import { manyLines } from './beside/many.ts';
import { memoryLines } from './beside/memory.ts';
import { refreshLines } from './beside/refresh.ts';
import { startLines } from './beside/start.ts';

const parts = {
  start: startLines,
  memory: memoryLines,
  flood: floodLines,
  logins: loginLines,
  refresh: refreshLines,
  many: manyLines,
} as const;

/**
 * What is measured beside a request's cost: the start, memory, what others feel in a flood and while many log in, a refresh,
 * a million sessions. Some five minutes. What is started is left to `until`.
 */
export async function measureBeside(
  until: Ending,
  tell: (text: string) => void,
  names: readonly string[] = Object.keys(parts),
): Promise<BesideLine[]> {
  const lines: BesideLine[] = [];
  for (const [name, measure] of Object.entries(parts)) if (names.includes(name)) lines.push(...(await measure(until, tell)));
  return lines;
}

// By itself: node bench/beside.ts [part …]
if (import.meta.main) {
  await using held = new AsyncDisposableStack();
  const names = process.argv.slice(2);
  const until = { after: (work: () => Promise<void> | void) => held.defer(async () => work()) };
  for (const line of await measureBeside(
    until,
    (text) => process.stderr.write(`\r\u001b[K${text} …`),
    names.length > 0 ? names : undefined,
  ))
    console.log(shown(line));
}

function shown({ name, value, min, max, unit, bar, holds, note }: BesideLine): string {
  const range = min === undefined || max === undefined ? '' : ` (${text(min)}..${text(max)})`;
  const held = bar === undefined ? '' : `  ${holds ? 'holds' : 'MISSES'} ${text(bar)}`;
  return `${name.padEnd(78)} ${text(value)}${range} ${unit}${held}${note === undefined ? '' : `  [${note}]`}`;
}

function text(value: number): string {
  return value.toFixed(value >= 100 ? 0 : value >= 10 ? 1 : 2);
}
