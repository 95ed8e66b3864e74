import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { metrics } from '../packages/server/src/metrics.ts';
import { notOnTheDashboard } from '../tools/reference/dashboard.ts';
import { logIn, sharedProgram } from './support/program.ts';
import { scrape } from './support/scrape.ts';

const read = (path: string): string => readFileSync(fileURLToPath(new URL(`../${path}`, import.meta.url)), 'utf8');
const program = sharedProgram({ ADMIN_LISTEN: '127.0.0.1:0' }, async (started) => {
  await logIn(started);
});

const dashboard = JSON.parse(read('docs/grafana-dashboard.json'));
const panels: any[] = dashboard.panels;
const graphs = panels.filter(({ type }) => type !== 'row');
const shown: string[] = graphs.flatMap(({ targets }) => targets.map(({ expr }: { expr: string }) => expr));
const alerts = [...read('docs/how-to/watch-with-prometheus.md').matchAll(/^ +expr: (.+)$/gm)].map(([, expr = '']) => expr);
const mentioned = [...read('docs/how-to/watch-with-prometheus.md').matchAll(/`(portcullis_\w+)/g)].map(([, name = '']) => name);

const namesIn = (expr: string): string[] => expr.match(/\b(portcullis|process|nodejs)_\w+/g) ?? [];

/** Each label that an expression selects or groups by, with the metric that it says it of. */
function labelsIn(expr: string): [metric: string, label: string][] {
  const [metric = ''] = namesIn(expr);
  const selected = [...expr.matchAll(/\{([^}]*)\}/g)].flatMap(([, inside = '']) => [...inside.matchAll(/(\w+)(?:=~|!=|=)"/g)]);
  const grouped = [...expr.matchAll(/\bby \(([^)]*)\)/g)].flatMap(([, inside = '']) => [...inside.matchAll(/(\w+)/g)]);
  return [...selected, ...grouped].map(([, label = '']) => [metric, label]);
}

test('the dashboard and the alerts speak of nothing that a server does not show', async () => {
  const { samples } = await scrape(program);
  const there = new Set(samples.map(({ name }) => name));
  assert.ok(shown.length > 30 && alerts.length === 7);
  for (const expr of [...shown, ...alerts]) {
    for (const name of namesIn(expr)) assert.ok(there.has(name) || metrics.some((metric) => metric.name === name), `${name} in ${expr}`);
    for (const [name, label] of labelsIn(expr)) {
      const labels =
        metrics.find((metric) => name.replace(/_(bucket|sum|count)$/, '') === metric.name || name === metric.name)?.labels ?? {};
      assert.ok(['job', 'instance', 'le'].includes(label) || Object.hasOwn(labels, label), `${label} in ${expr}`);
    }
    for (const pair of ['()', '{}', '[]']) assert.equal(expr.split(pair[0]!).length, expr.split(pair[1]!).length, expr);
    for (const counter of expr.match(/\w+_total\b/g) ?? [])
      assert.match(expr, new RegExp(`(rate|increase)\\(${counter}[{\\[]`), 'a counter is shown by its rate');
  }
  for (const name of mentioned)
    assert.ok(
      metrics.some((metric) => metric.name === name),
      name,
    );
});

test('every metric is on the dashboard, or it is said why not', () => {
  const all = shown.join('\n');
  for (const { name, type } of metrics) {
    const isShown = namesIn(all).includes(type === 'histogram' ? `${name}_bucket` : name);
    assert.notEqual(isShown, Object.hasOwn(notOnTheDashboard, name), name);
  }
});

test('every panel has a title, a unit, a description and a place of its own', () => {
  assert.equal(new Set(panels.map(({ id }) => id)).size, panels.length);
  const taken = new Set<string>();
  for (const {
    gridPos: { x, y, w, h },
  } of panels)
    for (let column = x; column < x + w; column++)
      for (let line = y; line < y + h; line++) {
        assert.ok(column < 24 && !taken.has(`${column} ${line}`), `${column} ${line} is taken twice`);
        taken.add(`${column} ${line}`);
      }
  for (const { title, description, datasource, fieldConfig, targets } of graphs) {
    assert.ok(title && description.endsWith('.') && fieldConfig.defaults.unit, title);
    assert.equal(datasource.uid, '${datasource}');
    assert.ok(targets.every((target: any) => target.legendFormat && target.datasource.uid === '${datasource}'));
  }
  assert.deepEqual(
    dashboard.templating.list.map(({ name }: any) => name),
    ['datasource', 'job', 'instance'],
  );
});
