import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import {
  chmodSync,
  chownSync,
  cpSync,
  lstatSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { folderFor } from './support/program.ts';

const bin = fileURLToPath(new URL('../packages/server/bin/', import.meta.url));

/** A program of one word that keeps compiled what it is made of, as ours does. */
const setUp = (t: Parameters<typeof folderFor>[0]) => {
  const root = folderFor(t);
  mkdirSync(join(root, 'bin'));
  cpSync(join(bin, 'compiled.mjs'), join(root, 'bin', 'compiled.mjs'));
  writeFileSync(join(root, 'word.ts'), 'export const word: string = "hello";\n');
  const text = `await import('./compiled.mjs'); const { getCompileCacheDir } = await import('node:module');
    const { word } = await import('../word.ts'); console.log(JSON.stringify([word, getCompileCacheDir() ?? null]));`;
  writeFileSync(join(root, 'bin', 'program.mjs'), text);
  const run = (): [word: string, kept: string | null] =>
    JSON.parse(spawnSync(process.execPath, [join(root, 'bin', 'program.mjs')], { encoding: 'utf8', env: {} }).stdout);
  return { root, folder: join(root, '.compiled'), run };
};

describe('what Node has compiled is kept', () => {
  test("beside the program, and is its owner's alone", (t) => {
    const { folder, run } = setUp(t);
    assert.deepEqual(run()[0], 'hello');
    assert.equal(run()[1]?.startsWith(folder), true);
    assert.equal(lstatSync(folder).mode & 0o777, 0o700);
    const [of = ''] = readdirSync(folder);
    assert.equal(lstatSync(join(folder, of)).mode & 0o777, 0o700);
  });

  test('and never read where others can write, or through a link, or of somebody else', (t) => {
    const { root, folder, run } = setUp(t);
    run();
    for (const mode of [0o770, 0o707, 0o777, 0o1777]) {
      chmodSync(folder, mode);
      assert.deepEqual(run(), ['hello', null], mode.toString(8));
    }
    chmodSync(folder, 0o700);
    if (process.getuid?.() === 0) {
      chownSync(folder, 65_534, 65_534);
      assert.deepEqual(run(), ['hello', null]);
      chownSync(folder, 0, 0);
    }
    renameSync(folder, join(root, 'elsewhere'));
    symlinkSync(join(root, 'elsewhere'), folder);
    assert.deepEqual(run(), ['hello', null]);
    rmSync(folder);
    writeFileSync(folder, '');
    assert.deepEqual(run(), ['hello', null]);
  });

  test('for one text: of a file that has changed nothing kept is run', (t) => {
    const { root, run } = setUp(t);
    run();
    writeFileSync(join(root, 'word.ts'), readFileSync(join(root, 'word.ts'), 'utf8').replace('hello', 'jello'));
    assert.equal(run()[0], 'jello');
  });
});
