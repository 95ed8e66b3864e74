/** A bar to the right of its name; all of one chart share a scale that begins at 0. */
export type Bar = {
  readonly name: string;
  readonly value: number;
  /** The part of it that something else took: drawn behind the value, lighter. */
  readonly beside?: number;
  /** Where it begins, if not at 0: what comes before is drawn faintly. */
  readonly from?: number;
  readonly range?: readonly [number, number];
  /** It should end before this. */
  readonly bar?: number;
  readonly strong?: boolean;
};

export type Chart = { readonly title: string; readonly unit: string; readonly about: readonly string[]; readonly bars: readonly Bar[] };

const [WIDTH, LEFT, RIGHT, TOP, STEP] = [860, 290, 64, 64, 26] as const;

/** As SVG: no script, nothing from elsewhere, its own ground, so that it is legible on a light page and on a dark one. */
export function chartOf({ title, unit, about, bars }: Chart): string {
  // A range that is far out, as of a disturbed round, leaves the picture instead of pressing all the rest together.
  const most = Math.max(...bars.flatMap(({ value, beside = 0, bar = 0 }) => [value + beside, bar])) * 1.12;
  const height = TOP + bars.length * STEP + 36 + about.length * 16;
  const x = (value: number): number => round(LEFT + (Math.min(Math.max(value, 0), most) / most) * (WIDTH - LEFT - RIGHT));
  const grid = ticks(most);
  const bottom = TOP + bars.length * STEP;
  return `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${WIDTH} ${height}" role="img" aria-labelledby="t d">
<title id="t">${escaped(title)}</title>
<desc id="d">${escaped(bars.map(({ name, value }) => `${name}: ${shown(value)}`).join('; '))}</desc>
<style>
text { font: 13px system-ui, sans-serif; fill: #1f2328 } .title { font-size: 16px; font-weight: 600 } .quiet { fill: #59636e; font-size: 11px } .end { text-anchor: end } .mid { text-anchor: middle }
.ground { fill: #ffffff; stroke: #d1d9e0 } .grid { stroke: #d1d9e0 } .value { fill: #6e7781 } .strong { fill: #0969da } .beside { opacity: .4 } .before { opacity: .15 } .range { stroke: #1f2328; opacity: .55 } .bar { stroke: #cf222e; stroke-width: 2 }
@media (prefers-color-scheme: dark) { text { fill: #f0f6fc } .quiet { fill: #9198a1 } .ground { fill: #0d1117; stroke: #3d444d } .grid { stroke: #3d444d } .value { fill: #9198a1 } .strong { fill: #4493f8 } .range { stroke: #f0f6fc } .bar { stroke: #f85149 } }
</style>
<rect class="ground" x=".5" y=".5" width="${WIDTH - 1}" height="${height - 1}" rx="6"/>
<text class="title" x="16" y="28">${escaped(title)}</text>
<text class="quiet" x="16" y="46">${escaped(unit)}</text>
${grid.map((at) => `<path class="grid" d="M${x(at)} ${TOP - 8}V${bottom}"/><text class="quiet mid" x="${x(at)}" y="${bottom + 14}">${shown(at)}</text>`).join('\n')}
${bars.map((bar, nth) => drawn(bar, TOP + nth * STEP, x)).join('\n')}
${about.map((line, nth) => `<text class="quiet" x="16" y="${bottom + 36 + nth * 16}">${escaped(line)}</text>`).join('\n')}
</svg>
`;
}

function drawn({ name, value, beside = 0, from = 0, range, bar, strong }: Bar, y: number, x: (value: number) => number): string {
  const box = (kind: string, a: number, b: number): string => {
    const [left, right] = [x(Math.min(a, b)), x(Math.max(a, b))];
    return `<rect class="${kind}" x="${left}" y="${y}" width="${round(Math.max(right - left, 1))}" height="16" rx="2"/>`;
  };
  const colour = strong ? 'strong' : 'value';
  const middle = y + 8;
  return [
    `<text class="end" x="${LEFT - 10}" y="${y + 12.5}">${escaped(name)}</text>`,
    ...(from > 0 ? [box(`${colour} before`, 0, from)] : []),
    box(colour, from, value),
    ...(beside > 0 ? [box(`${colour} beside`, value, value + beside)] : []),
    ...(range ? [`<path class="range" d="M${x(range[0])} ${middle}H${x(range[1])}"/>`] : []),
    ...(bar === undefined ? [] : [`<path class="bar" d="M${x(bar)} ${y - 3}V${y + 19}"/>`]),
    `<text x="${round(Math.max(x(value + beside), x(from), x(range?.[1] ?? 0), x(bar ?? 0)) + 6)}" y="${y + 12.5}">${shown(value)}</text>`,
  ].join('');
}

/** Some five round numbers from 0 up. */
function ticks(most: number): number[] {
  const rough = most / 5;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = ([1, 2, 5, 10].find((times) => times * power >= rough) ?? 10) * power;
  return Array.from({ length: Math.floor(most / step) + 1 }, (_, nth) => nth * step);
}

const round = (value: number): number => Number(value.toFixed(1));
const shown = (value: number): string => (Number.isInteger(value) ? String(value) : value.toFixed(value < 10 ? 2 : 1));
const escaped = (text: string): string => text.replace(/[&<>"]/g, (sign) => `&#${sign.charCodeAt(0)};`);
