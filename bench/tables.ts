import type { BesideLine } from './beside-line.ts';
import type { Compared } from './compare.ts';
import type { Step } from './ladder.ts';
import type { PeerCost } from './peers.ts';
import type { Cost } from './reference.ts';
import type { Held } from './requests.ts';
import type { Results } from './results.ts';
import type { Spread } from './spread.ts';
import type { Cell, Lines } from './table.ts';

/** What a run found, as tables: for a terminal and for the docs. */
export function tablesOf(found: Results): Lines[] {
  switch (found.what) {
    case 'requests':
      return [requests(found.rows)];
    case 'ladder':
      return found.ladders.map(ladder);
    case 'peers':
      return [peers(found.rows), madeOf(found.rows)];
    case 'beside':
      return [beside(found.lines)];
    case 'compare':
      return [compared(found.rows, found.ref)];
  }
}

const requests = (rows: readonly Held[]): Lines => {
  const stores = storesOf(rows);
  return [
    ['', 'CPU µs', ...stores, '× bare', 'at most', '', ...(stores.length > 0 ? ['× with stores'] : []), ...loadHead],
    ...rows.map((row): Cell[] => [
      row.name,
      row.cpuUs.median.toFixed(1),
      ...stores.map((store) => row.storesUs[store]?.median.toFixed(1) ?? ''),
      ranged(row.ratio, 2),
      row.bar === undefined ? '' : row.barSays === undefined ? row.bar.toFixed(1) : `${row.bar.toFixed(2)}, ${row.barSays}`,
      verdict(row.holds),
      ...(stores.length > 0 ? [hasStores(row) ? ranged(row.together, 2) : ''] : []),
      ...load(row),
    ]),
  ];
};

const peers = (rows: readonly PeerCost[]): Lines => {
  const stores = storesOf(rows);
  return [
    ['', 'CPU µs', ...stores, '× bare', '× with stores', ...loadHead],
    ...rows.map((row): Cell[] => [
      row.isOurs ? { text: row.name, as: 'good' } : row.name,
      row.cpuUs.median.toFixed(1),
      ...stores.map((store) => row.storesUs[store]?.median.toFixed(1) ?? ''),
      ranged(row.ratio, 2),
      hasStores(row) ? ranged(row.together, 2) : '',
      ...load(row),
    ]),
  ];
};

const madeOf = (rows: readonly PeerCost[]): Lines => [
  ['', 'made of'],
  ...rows.flatMap(({ name, versions, note }) =>
    versions === undefined ? [] : [[name, note === undefined ? versions : `${versions}; ${note}`]],
  ),
];

const ladder = (steps: readonly Step[]): Lines => {
  const unit = steps[0]?.cpuUs.median ?? NaN;
  return [
    ['', 'adds µs', 'adds × bare', '× bare', 'CPU µs'],
    ...steps.map(({ name, adds, ratio, cpuUs }, nth): Cell[] => [
      nth > 0 ? `+ ${name}` : name,
      adds ? (adds.median * unit).toFixed(1) : '',
      adds ? `${adds.median.toFixed(2)} (${adds.sure.map((side) => side.toFixed(2)).join('..')})` : '',
      ratio.median.toFixed(2),
      cpuUs.median.toFixed(1),
    ]),
  ];
};

const beside = (lines: readonly BesideLine[]): Lines => [
  ['', 'measured', 'range', 'at most', '', ''],
  ...lines.map(({ name, value, min, max, unit, bar, holds, note }): Cell[] => [
    name,
    `${number(value)} ${unit}`,
    min === undefined || max === undefined ? '' : `${number(min)}..${number(max)}`,
    bar === undefined ? '' : number(bar),
    verdict(holds),
    note ?? '',
  ]),
];

const compared = (rows: readonly Compared[], ref: string): Lines => [
  ['CPU µs a request', ref, 'now', 'now ÷ then', 'in each round', ''],
  ...rows.map(({ name, cpuUs: [then, now], ratio: { median, min, max }, verdict }): Cell[] => [
    name,
    then.median.toFixed(1),
    now.median.toFixed(1),
    median.toFixed(3),
    `${min.toFixed(2)}..${max.toFixed(2)}`,
    verdict === undefined ? { text: 'no telling', as: 'quiet' } : { text: verdict, as: verdict === 'cheaper' ? 'good' : 'bad' },
  ]),
];

const loadHead = ['requests/s', 'p50 ms', 'p99 ms'];
const load = ({ perSecond, p50Ms, p99Ms }: Cost): string[] => [perSecond.toFixed(0), p50Ms.toFixed(2), p99Ms.toFixed(2)];

const storesOf = (rows: readonly Cost[]): string[] => [...new Set(rows.flatMap(({ storesUs }) => Object.keys(storesUs)))];
const hasStores = ({ storesUs }: Cost): boolean => Object.keys(storesUs).length > 0;

const ranged = ({ median, min, max }: Spread, digits: number): string =>
  `${median.toFixed(digits)} (${min.toFixed(digits)}..${max.toFixed(digits)})`;

const verdict = (holds: boolean | undefined): Cell =>
  holds === undefined ? '' : holds ? { text: 'held', as: 'good' } : { text: 'not held', as: 'bad' };

const number = (value: number): string =>
  Math.abs(value) >= 100 ? Math.round(value).toLocaleString('en') : String(Number(value.toPrecision(3)));
