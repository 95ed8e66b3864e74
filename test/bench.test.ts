import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { chartOf } from '../bench/chart.ts';
import { watchCpu } from '../bench/cpu.ts';
import { spread } from '../bench/spread.ts';
import { inMarkdown } from '../bench/table.ts';
import { without } from './support/needs.ts';
import { folderFor } from './support/program.ts';

const root = fileURLToPath(new URL('..', import.meta.url));

describe('the bench', () => {
  test(
    'two versions side by side: each is started from its own sources, asked, and gone afterwards',
    { skip: without('a clone', existsSync(join(root, '.git'))) },
    async (t) => {
      const file = join(folderFor(t), 'found.json');
      const args = ['bench/run.ts', '--compare', 'HEAD', '--only', '401, no token', '--rounds', '1', '--json', file];
      const { stdout } = await promisify(execFile)(process.execPath, args, { cwd: root });
      const { what, command, machine, rows } = JSON.parse(readFileSync(file, 'utf8'));
      assert.equal(what, 'compare');
      assert.equal(command, `npm run bench -- --compare HEAD --rounds 1 --only '401, no token'`);
      assert.equal(machine.node, process.versions.node);
      assert.deepEqual(
        rows.map((row: { name: string }) => row.name),
        ['401, no token'],
      );
      assert.ok(rows[0].ratio.median > 0);
      assert.match(stdout, /401, no token +\d+\.\d +\d+\.\d +\d\.\d{3}/);
    },
  );

  test('a process is charged what its threads take, and nothing while it waits', async () => {
    const spent = watchCpu([process.pid]);
    const own = process.cpuUsage();
    for (const until = performance.now() + 60; performance.now() < until;);
    const { user, system } = process.cpuUsage(own);
    assert.ok(Math.abs(spent() - user - system) < 20_000, `${spent()} µs, where the process itself says ${user + system}`);
  });

  test('a median has its range, and how sure it is', () => {
    assert.deepEqual(spread([3]), { median: 3, min: 3, max: 3, sure: [3, 3] });
    const { median, min, max, sure } = spread(Array.from({ length: 101 }, (_, i) => 100 - i));
    assert.deepEqual([median, min, max], [50, 0, 100]);
    assert.ok(sure[0] > 38 && sure[0] < 42 && sure[1] > 58 && sure[1] < 62, String(sure));
    assert.throws(() => spread([]));
  });

  test('a chart has each bar with its number, and neither a script nor anything from elsewhere', () => {
    const bars = [
      { name: 'bare & <plain>', value: 1 },
      { name: 'ours', value: 1.55, beside: 0.2, range: [1.4, 1.7] as const, bar: 1.6, strong: true },
    ];
    const svg = chartOf({ title: 'Cost', unit: '×', about: ['a machine', 'a command'], bars });
    assert.match(svg, /^<svg xmlns="http:\/\/www\.w3\.org\/2000\/svg"/);
    for (const part of ['bare &#38; &#60;plain&#62;', 'ours', '1.55', 'a machine', 'a command', 'prefers-color-scheme: dark'])
      assert.ok(svg.includes(part), part);
    assert.doesNotMatch(svg.replace('http://www.w3.org/2000/svg', ''), /script|href|https?:|url\(/);
  });

  test('on a page, what is not held stands out', () => {
    assert.equal(
      inMarkdown([
        ['', 'a'],
        ['b', { text: 'not held', as: 'bad' }],
      ]),
      '| | a |\n| --- | --- |\n| b | **not held** |',
    );
  });
});
