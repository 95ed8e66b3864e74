import { spawnSync } from 'node:child_process';
import { existsSync, statSync } from 'node:fs';
import { join } from 'node:path';

const here = import.meta.dirname;
const changedAt = (path: string): number => (existsSync(join(here, path)) ? statSync(join(here, path)).mtimeMs : 0);

/**
 * Installs what package-lock.json here names and builds what Node cannot run as it is; does nothing when both have been done.
 * @throws {Error} when npm or the compiler does not succeed; what they say is on stderr.
 */
export function installPeers(tell: (line: string) => void): void {
  if (changedAt('package-lock.json') > changedAt('node_modules/.package-lock.json')) {
    tell('Installing the peers (once; about fifteen seconds) …');
    run('npm', 'ci', '--loglevel=error');
  }
  // NestJS wants decorators with their types, which no engine has.
  const sources = ['nest/main.ts', 'nest/tsconfig.json', 'tsconfig.json', 'given.ts'];
  const builtAt = changedAt('dist/nest/main.js');
  if (sources.some((path) => changedAt(path) > builtAt)) run(join(here, '../../node_modules/.bin/tsc'), '-p', 'nest');
}

function run(command: string, ...args: string[]): void {
  const { status } = spawnSync(command, args, { cwd: here, stdio: ['ignore', 2, 2] });
  if (status !== 0) throw new Error(`${command} ${args.join(' ')} did not succeed`);
}
