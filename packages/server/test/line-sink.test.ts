import assert from 'node:assert/strict';
import { spawn, spawnSync } from 'node:child_process';
import { closeSync, existsSync, mkdtempSync, openSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { setTimeout as wait } from 'node:timers/promises';
import { lineSink } from '../src/lib/line-sink.ts';

for (const how of ['at once', 'behind'] as const) {
  test(`${how}: every line arrives whole and in order, also those of the last moment`, async (t) => {
    const folder = mkdtempSync(join(tmpdir(), 'portcullis-test-'));
    t.after(() => rmSync(folder, { recursive: true, force: true }));
    const file = join(folder, 'log');
    const fd = openSync(file, 'a');
    t.after(() => closeSync(fd));
    const sink = lineSink(fd, how);
    const lines = Array.from({ length: 2_000 }, (_, i) => `${i} ${'x'.repeat(i % 300)}\n`);
    for (const line of lines.slice(0, 1_000)) sink.write(line);
    await wait(50);
    for (const line of lines.slice(1_000)) sink.write(line);
    await wait(50);
    sink.close();
    assert.equal(readFileSync(file, 'utf8'), lines.join(''));
  });

  test(`${how}: it moves to another file between two lines, and all of them are in one of the two`, async (t) => {
    const folder = mkdtempSync(join(tmpdir(), 'portcullis-test-'));
    t.after(() => rmSync(folder, { recursive: true, force: true }));
    const files = ['a', 'b', 'c', 'd'].map((name) => join(folder, name));
    const [first = 0, ...others] = files.map((file) => openSync(file, 'a'));
    const sink = lineSink(first, how);
    const lines = Array.from({ length: 3_000 }, (_, i) => `${i} ${'x'.repeat(i % 300)}\n`);
    for (const [i, line] of lines.entries()) {
      sink.write(line);
      if (i % 1_000 > 0) continue;
      sink.moveTo(others[i / 1_000] ?? 0); // its line is being written
      await wait(20);
    }
    await wait(50);
    sink.close();
    const texts = files.map((file) => readFileSync(file, 'utf8'));
    assert.equal(texts.join(''), lines.join(''));
    // On a slow machine a file may have its successor before anything was written to it.
    assert.ok(texts.every((text) => text === '' || text.endsWith('\n')));
    assert.throws(() => closeSync(first), { code: 'EBADF' }, 'what it left is closed');
  });

  test(`${how}: a full disk neither throws nor holds the process`, { skip: !existsSync('/dev/full') }, async (t) => {
    const fd = openSync('/dev/full', 'w');
    t.after(() => closeSync(fd));
    const sink = lineSink(fd, how);
    for (let i = 0; i < 100; i += 1) sink.write('no room\n');
    await wait(20);
    sink.write('no room\n');
    sink.close();
    await wait(20);
    assert.deepEqual(sink.state(), { waitingBytes: 0, droppedLines: 101 });
  });
}

test('a reader that stands still costs a bounded memory, and the process still ends', () => {
  const program = `
    import { lineSink } from '${new URL('../src/lib/line-sink.ts', import.meta.url).href}';
    const sink = lineSink(1, 'behind');
    for (let i = 0; i < 40_000; i += 1) sink.write('x'.repeat(1_000) + '\\n');
    if (process.memoryUsage().rss > 250e6) process.exit(3);
    process.exit(0);`;
  // Its output is a pipe that nobody reads until it has ended.
  const { status, signal } = spawnSync(process.execPath, ['--input-type=module-typescript', '-e', program], {
    stdio: ['ignore', 'pipe', 'inherit'],
    maxBuffer: 1e9,
    timeout: 20_000,
  });
  assert.deepEqual([status, signal], [0, null]);
});

test('several processes on one pipe, with a reader that is slow: each line is whole', async () => {
  const program = `
    import { lineSink } from '${new URL('../src/lib/line-sink.ts', import.meta.url).href}';
    const sink = lineSink(1, 'behind');
    const lines = Array.from({ length: 3_000 }, (_, i) => JSON.stringify({ by: process.argv[1], i, text: 'x'.repeat(i % 700) }) + '\\n');
    for (const line of lines) sink.write(line);`;
  const quoted = `'${program.replaceAll("'", "'\\''")}'`;
  const all = ['a', 'b', 'c'].map((name) => `'${process.execPath}' --input-type=module-typescript -e ${quoted} ${name} &`);
  const shell = spawn('sh', ['-c', `${all.join(' ')} wait`], { stdio: ['ignore', 'pipe', 'inherit'] });
  let text = '';
  for await (const chunk of shell.stdout.setEncoding('utf8')) {
    text += chunk;
    await wait(1);
  }
  const lines = text
    .trimEnd()
    .split('\n')
    .map((line): { by: string; i: number } => JSON.parse(line));
  for (const name of ['a', 'b', 'c'])
    assert.deepEqual(
      lines.filter(({ by }) => by === name).map(({ i }) => i),
      Array.from({ length: 3_000 }, (_, i) => i),
    );
});
