/** A metric with what it stands at, as Prometheus reads it: plain data, which may come from another process. */
export type Family = {
  /** With its unit and, for a counter, `_total` at its end. */
  readonly name: string;
  readonly help: string;
} & (
  | { readonly type: 'counter' | 'gauge'; readonly samples: readonly Sample<number>[] }
  | { readonly type: 'histogram'; readonly samples: readonly Sample<Buckets>[] }
);

export type Sample<Value> = { readonly labels?: Labels; readonly value: Value };
/** A histogram at a moment: how many were not above each bound, the last of them being all. */
export type Buckets = { readonly cumulated: readonly (readonly [upTo: number, count: number])[]; readonly sum: number };
export type Labels = Readonly<Record<string, string>>;

/** Prometheus's own format, version 0.0.4, and OpenMetrics 1.0, which differs in a few words. */
export const formats = {
  prometheus: 'text/plain; version=0.0.4; charset=utf-8',
  openmetrics: 'application/openmetrics-text; version=1.0.0; charset=utf-8',
} as const;
export type Format = keyof typeof formats;

export function exposition(families: Iterable<Family>, format: Format): string {
  const lines: string[] = [];
  for (const family of families) {
    const name = format === 'openmetrics' && family.type === 'counter' ? family.name.replace(/_total$/, '') : family.name;
    lines.push(`# HELP ${name} ${escaped(family.help)}`, `# TYPE ${name} ${family.type}`);
    if (family.type === 'histogram') for (const { labels, value } of family.samples) lines.push(...buckets(family.name, labels, value));
    else for (const { labels, value } of family.samples) lines.push(line(family.name, labels, value));
  }
  if (format === 'openmetrics') lines.push('# EOF');
  return `${lines.join('\n')}\n`;
}

function buckets(name: string, labels: Labels | undefined, { cumulated: all, sum }: Buckets): string[] {
  return [
    ...all.map(([upTo, count]) => line(`${name}_bucket`, { ...labels, le: bound(upTo) }, count)),
    line(`${name}_sum`, labels, sum),
    line(`${name}_count`, labels, all.at(-1)?.[1] ?? 0),
  ];
}

/** As OpenMetrics writes it, in both formats: a bucket is the same series whichever was asked for. */
const bound = (upTo: number): string => (upTo === Infinity ? '+Inf' : Number.isInteger(upTo) ? `${upTo}.0` : `${upTo}`);

function line(name: string, labels: Labels = {}, value: number): string {
  const pairs = Object.entries(labels).map(([label, text]) => `${label}="${escaped(text).replaceAll('"', '\\"')}"`);
  return `${name}${pairs.length ? `{${pairs.join(',')}}` : ''} ${value}`;
}

const escaped = (text: string): string => text.replaceAll('\\', '\\\\').replaceAll('\n', '\\n');
