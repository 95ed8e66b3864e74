import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { stripTypeScriptTypes } from 'node:module';
import { test } from 'node:test';

// As plain JavaScript: without compilers Node has no reader of TypeScript.
const script = `
  ${stripTypeScriptTypes(readFileSync(new URL('../src/engine-flags.ts', import.meta.url), 'utf8'))}
  function reading(x) { return x * 2; }
  function serving(x) { return x * 2; }
  setForReading();
  for (let i = 0; i < 3_000_000; i++) reading(i);
  setForServing();
  for (let i = 0; i < 3_000_000; i++) serving(i);`;

const run = (...flags: string[]) =>
  spawnSync(process.execPath, [...flags, '--input-type=module', '--eval', script], { encoding: 'utf8', env: {} });

const isCompiled = (trace: string, name: string): boolean => trace.includes(`<JSFunction ${name} `);

test('V8 compiles nothing while modules are read, and what is hot when the server serves', () => {
  const { status, stdout } = run('--trace-opt');
  assert.equal(status, 0);
  assert.equal(isCompiled(stdout, 'reading'), false);
  assert.equal(isCompiled(stdout, 'serving'), true);
});

test('a compiler that the command line has switched off stays off', () => {
  for (const off of [
    ['--no-opt', '--no-maglev'],
    ['--no_opt', '--no_maglev'],
    ['--noopt', '--nomaglev'],
    ['--no-turbofan', '--no-maglev'],
  ]) {
    const { status, stdout } = run('--trace-opt', ...off);
    assert.equal(status, 0);
    assert.equal(isCompiled(stdout, 'serving'), false, off.join(' '));
  }
});

test('flags that are frozen are let be', () => {
  const { status, stderr } = run('--freeze-flags-after-init');
  assert.equal(status, 0, stderr);
});

test('where V8 may compile nothing, none of it is switched on', () => {
  const { status, stderr } = run('--jitless');
  assert.equal(status, 0, stderr);
});
