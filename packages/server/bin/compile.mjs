// Fills .compiled for the user who runs this, where the program itself will not be allowed to: in an image. See compiled.mjs.
import './compiled.mjs';
import { execFileSync, fork } from 'node:child_process';
import { globSync } from 'node:fs';
import { fileURLToPath } from 'node:url';

const source = fileURLToPath(new URL('../src/', import.meta.url));
const programs = ['main.ts', 'worker.ts'];
for (const file of globSync('**/*.ts', { cwd: source, exclude: ['**/conformance.ts', ...programs] })) await import(source + file);
execFileSync(process.execPath, [source + 'main.ts', '--version'], { stdio: 'ignore' });
fork(source + 'worker.ts').disconnect(); // whose parent is gone, ends
