#!/usr/bin/env node
// Portcullis needs Node 26. Started by an older one, this hands over to the Node that npm installed beside it.
import { spawn } from 'node:child_process';
import { existsSync } from 'node:fs';
import { constants } from 'node:os';
import { fileURLToPath } from 'node:url';

const main = new URL('../src/main.ts', import.meta.url);
if (Number(process.versions.node.split('.')[0]) >= 26) {
  await import('./compiled.mjs');
  await import(main.href);
} else {
  const beside = ['../node_modules/.bin/node', '../../../node_modules/.bin/node', '../../.bin/node']
    .map((path) => fileURLToPath(new URL(path, import.meta.url)))
    .find((path) => existsSync(path));
  if (!beside) {
    console.error(`portcullis needs Node 26 or newer; this is ${process.version}. Run "npm ci" in its folder, or install Node 26.`);
    process.exit(2);
  }
  const child = spawn(beside, [fileURLToPath(main), ...process.argv.slice(2)], { stdio: 'inherit' });
  for (const signal of ['SIGTERM', 'SIGINT', 'SIGHUP']) process.on(signal, () => child.kill(signal));
  child.on('exit', (code, signal) => process.exit(signal ? 128 + constants.signals[signal] : (code ?? 1)));
}
