import { plainText } from '../domain/audit/audit.ts';
import type { Style, Voice } from './terminal.ts';
import { cutTo, widthOf } from './width.ts';

type Value = string | number | boolean | undefined;

/** A column of a table, a line of a record and a key of the JSON, in one. */
export type Column<Item> = {
  readonly key: keyof Item & string;
  /** Its head; the key's own words where it is left out. */
  readonly title?: string;
  /**
   * `time`: epoch milliseconds, shown in the time zone of who looks; `ago`: the same, as the distance from now. Both are
   * ISO 8601 in JSON.
   */
  readonly as?: 'time' | 'ago';
  readonly style?: (item: Item) => Style | undefined;
  /** What a table shows in place of the value. */
  readonly shows?: (item: Item) => string;
  /** May be cut where the terminal is too narrow. */
  readonly cut?: true;
  /** Shown only on a terminal that is so wide, and where there is none. */
  readonly from?: number;
  /** Only in JSON. */
  readonly hidden?: true;
};

export type Item = Readonly<Record<string, Value>>;

const GAP = 2;
const NARROWEST_CUT = 8;
const LONGEST_TEXT = 512;

/**
 * Rows under their heads, each column as wide as it must be.
 * @param on.head false goes on below a table that is there already; `widths`, kept from one to the next, holds them together.
 */
export function table<I extends Item>(items: readonly I[], columns: readonly Column<I>[], voice: Voice, now: number, { head = true, widths: needed = [] as number[] } = {}): string[] {
  const { width: room = Infinity } = voice;
  const shown = columns.filter(({ hidden, from = 0 }) => !hidden && from <= room);
  const cells = items.map((item) => shown.map((column) => show(column.shows?.(item) ?? item[column.key], column, now)));
  shown.forEach((column, i) => { needed[i] = Math.max(needed[i] ?? widthOf(titleOf(column)), ...cells.map((row) => widthOf(row[i] ?? ''))); });
  const widths = fit([...needed], shown, voice.width);

  const line = (texts: readonly string[], paint: (text: string, i: number) => string): string => texts
    .map((text, i) => {
      const cut = cutTo(text, widths[i] ?? 0);
      return paint(cut, i) + (i === texts.length - 1 ? '' : ' '.repeat((widths[i] ?? 0) - widthOf(cut) + GAP));
    }).join('').trimEnd();

  return [
    ...(head ? [line(shown.map(titleOf), (text) => voice.paint(['bold', 'underline'], text))] : []),
    ...items.map((item, n) => line(cells[n] ?? [], (text, i) => {
      const style = shown[i]?.style?.(item);
      return style ? voice.paint(style, text) : text;
    })),
  ];
}

/** One thing, a line for each that is known of it. */
export function record<I extends Item>(item: I, columns: readonly Column<I>[], voice: Voice, now: number): string[] {
  const shown = columns.filter(({ hidden }) => !hidden);
  const width = Math.max(...shown.map((column) => widthOf(titleOf(column))));
  return shown.map((column) => {
    const value = item[column.key];
    const text = show(value, column, now);
    const beside = column.as === 'time' && typeof value === 'number' ? voice.paint('dim', `  ${ago(value, now)}`) : '';
    const style = column.style?.(item);
    return `${voice.paint('bold', titleOf(column).padEnd(width))}  ${style ? voice.paint(style, text) : text}${beside}`;
  });
}

/** What programs get: every column by its key, `null` where there is nothing. */
export function json<I extends Item>(item: I, columns: readonly Column<I>[]): Record<string, string | number | boolean | null> {
  return Object.fromEntries(columns.map(({ key, as }) => {
    const value = item[key];
    const isTime = (as === 'time' || as === 'ago') && typeof value === 'number';
    return [key, isTime ? new Date(value).toISOString() : (value ?? null)];
  }));
}

/** `createdAt` as `created`, `userAgent` as `user agent`. */
export const titleOf = ({ title, key }: { title?: string; key: string }): string => title ?? key.replace(/At$/, '').replace(/[A-Z]/g, (letter) => ` ${letter.toLowerCase()}`);

/** `2026-01-31 15:04:05`, where the machine is. */
export function localTime(ms: number): string {
  const at = new Date(ms);
  const two = (n: number): string => String(n).padStart(2, '0');
  return `${at.getFullYear()}-${two(at.getMonth() + 1)}-${two(at.getDate())} ${two(at.getHours())}:${two(at.getMinutes())}:${two(at.getSeconds())}`;
}

const units = [['d', 86_400_000], ['h', 3_600_000], ['min', 60_000]] as const;

function ago(ms: number, now: number): string {
  const distance = Math.abs(now - ms);
  const [unit, unitMs] = units.find(([, size]) => distance >= size - 500) ?? ['', 0];
  if (unit === '') return ms > now ? 'within a minute' : 'just now';
  const count = `${Math.round(distance / unitMs)} ${unit}`;
  return ms > now ? `in ${count}` : `${count} ago`;
}

function show(value: Value, { as }: { as?: Column<Item>['as'] }, now: number): string {
  if (value === undefined) return '-';
  if (typeof value === 'boolean') return value ? 'yes' : 'no';
  if (typeof value === 'string') return plainText(value, LONGEST_TEXT);
  switch (as) {
    case 'time': return localTime(value);
    case 'ago': return ago(value, now);
    case undefined: return String(value);
  }
}

/** Takes from the columns that may be cut, the widest first, what a terminal has not. */
function fit(widths: number[], columns: readonly { cut?: true }[], limit: number | undefined): number[] {
  let beyond = limit === undefined ? 0 : widths.reduce((sum, width) => sum + width + GAP, -GAP) - limit;
  while (beyond > 0) {
    const [widest] = widths.map((width, i) => ({ width, i })).filter(({ width, i }) => columns[i]?.cut && width > NARROWEST_CUT).toSorted((a, b) => b.width - a.width);
    if (!widest) break;
    widths[widest.i] = widest.width - 1;
    beyond -= 1;
  }
  return widths;
}
