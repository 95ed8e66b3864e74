import assert from 'node:assert/strict';
import { request } from 'node:http';
import { setTimeout as wait } from 'node:timers/promises';
import type { Program } from './program.ts';

export type AdminAnswer = { readonly status: number; readonly headers: Readonly<Record<string, unknown>>; readonly text: string };

/** Asks the listener for operators of a program that was started with `ADMIN_LISTEN=127.0.0.1:0`. */
export async function askAdmin(
  program: Program,
  path: string,
  { method = 'GET', headers = {} }: { method?: string; headers?: Record<string, string> } = {},
): Promise<AdminAnswer> {
  const port = await adminPort(program);
  return new Promise((resolve, reject) => {
    const sent = request({ host: '127.0.0.1', port, path, method, headers, agent: false }, (answer) => {
      let text = '';
      answer.setEncoding('utf8').on('data', (chunk) => {
        text += chunk;
      });
      answer.on('end', () => resolve({ status: answer.statusCode ?? 0, headers: answer.headers, text }));
    });
    sent.on('error', reject).end();
  });
}

async function adminPort(program: Program): Promise<string> {
  for (let tries = 0; tries < 100; tries++) {
    const port = /for operators +http:\/\/[^\s/]*:(\d+)\//.exec(program.output())?.[1];
    if (port) return port;
    await wait(20);
  }
  throw new Error(`no listener for operators:\n${program.output()}`);
}

/** What a program's `/metrics` says now. */
export async function scrape(program: Program): Promise<Scrape> {
  const { status, headers, text } = await askAdmin(program, '/metrics');
  assert.equal(status, 200);
  assert.equal(headers['content-type'], 'text/plain; version=0.0.4; charset=utf-8');
  return parseExposition(text, 'prometheus');
}

export type Sample = { readonly name: string; readonly labels: Readonly<Record<string, string>>; readonly value: number };
export type Scrape = {
  /** By its name: the type. */
  readonly types: ReadonlyMap<string, string>;
  readonly samples: readonly Sample[];
  /** The value of the one sample with this name and, at least, these labels. */
  value(name: string, labels?: Record<string, string>): number | undefined;
};

/** Reads what Prometheus would, and takes offence at what a lenient reader passes over. */
export function parseExposition(text: string, format: 'prometheus' | 'openmetrics'): Scrape {
  assert.ok(text.endsWith('\n'), 'ends with a line feed');
  const lines = text.slice(0, -1).split('\n');
  if (format === 'openmetrics') assert.equal(lines.pop(), '# EOF');
  const types = new Map<string, string>();
  const samples: Sample[] = [];
  const seen = new Set<string>();
  let family = { name: '', type: '' };

  for (let i = 0; i < lines.length; i++) {
    const line = lines[i]!;
    if (!line.startsWith('#')) {
      const sample = parseSample(line);
      assert.ok(namesOf(family, format).includes(sample.name), `${line} is not of the family ${family.name}`);
      const series = `${sample.name} ${JSON.stringify(Object.entries(sample.labels).toSorted())}`;
      assert.ok(!seen.has(series), `${line} is there twice`);
      seen.add(series);
      samples.push(sample);
      continue;
    }
    const [, name = '', help = ''] = /^# HELP ([a-z_:][a-z0-9_:]*) (\S.*\.)$/.exec(line) ?? assert.fail(`no help: ${line}`);
    const [, sameName, type = ''] = /^# TYPE (\S+) (counter|gauge|histogram)$/.exec(lines[++i] ?? '') ?? assert.fail(`no type: ${name}`);
    assert.equal(sameName, name);
    assert.ok(!types.has(name) && help.length > 10, name);
    if (type === 'counter') assert.equal(name.endsWith('_total'), format === 'prometheus', name);
    else assert.doesNotMatch(name, /_(total|count|sum|bucket)$/);
    assert.doesNotMatch(name, /_(ms|millis|milliseconds|kb|mb|percent)(_|$)/, 'base units');
    types.set(name, type);
    family = { name, type };
  }
  for (const [name, type] of types) if (type === 'histogram') assertHistogram(samples, name);
  return { types, samples, value: (name, labels = {}) => only(samples, name, labels)?.value };
}

function namesOf({ name, type }: { name: string; type: string }, format: string): string[] {
  if (type === 'histogram') return [`${name}_bucket`, `${name}_sum`, `${name}_count`];
  return [type === 'counter' && format === 'openmetrics' ? `${name}_total` : name];
}

function parseSample(line: string): Sample {
  const [, name = '', inside = '', value = ''] =
    /^([a-z_:][a-z0-9_:]*)(?:\{(.*)\})? ([+-]?(?:\d+(?:\.\d+)?(?:e[+-]?\d+)?))$/s.exec(line) ?? assert.fail(`no sample: ${line}`);
  const labels: Record<string, string> = {};
  let rest = inside;
  while (rest !== '') {
    const [all = '', label = '', text = ''] =
      /^([a-z_][a-z0-9_]*)="((?:[^"\\\n]|\\["\\n])*)"(?:,(?=[a-z_])|$)/.exec(rest) ?? assert.fail(line);
    assert.ok(!Object.hasOwn(labels, label), line);
    labels[label] = text.replaceAll(/\\(.)/g, (_, char: string) => (char === 'n' ? '\n' : char));
    rest = rest.slice(all.length);
  }
  return { name, labels, value: Number(value) };
}

function assertHistogram(samples: readonly Sample[], name: string): void {
  const groups = Map.groupBy(
    samples.filter((sample) => sample.name === `${name}_bucket`),
    ({ labels: { le: _, ...others } }) => JSON.stringify(others),
  );
  for (const [key, buckets] of groups) {
    const bounds = buckets.map(({ labels }) => (labels.le === '+Inf' ? Infinity : Number(labels.le)));
    assert.deepEqual(
      bounds,
      bounds.toSorted((a, b) => a - b),
      name,
    );
    assert.equal(bounds.at(-1), Infinity);
    const counts = buckets.map(({ value }) => value);
    assert.deepEqual(
      counts,
      counts.toSorted((a, b) => a - b),
      'buckets are cumulative',
    );
    assert.equal(only(samples, `${name}_count`, JSON.parse(key))?.value, counts.at(-1));
    assert.ok(only(samples, `${name}_sum`, JSON.parse(key)), `${name} ${key} has a sum`);
  }
}

function only(samples: readonly Sample[], name: string, labels: Record<string, string>): Sample | undefined {
  const found = samples.filter(
    (sample) => sample.name === name && Object.entries(labels).every(([label, text]) => sample.labels[label] === text),
  );
  assert.ok(found.length < 2, `${name} ${JSON.stringify(labels)} is ${found.length} series`);
  return found[0];
}
