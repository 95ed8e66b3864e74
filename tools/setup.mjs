// Makes a fresh clone ready: installs what package-lock.json names, only when it has changed; with --test also the programs
// that the tests talk to. Plain JavaScript, because it is run by whatever Node the machine has (18 or newer).
import { spawnSync } from 'node:child_process';
import { existsSync, statSync } from 'node:fs';
import { fileURLToPath } from 'node:url';

const root = fileURLToPath(new URL('..', import.meta.url));
const run = (command, args) => spawnSync(command, args, { cwd: root, stdio: 'inherit' }).status === 0;
const changedAt = (path) => (existsSync(root + path) ? statSync(root + path).mtimeMs : 0);

if (changedAt('package-lock.json') > changedAt('node_modules/.package-lock.json')) {
  console.log('Installing dependencies (once; about ten seconds) …');
  if (!run('npm', ['ci', '--loglevel=error'])) {
    console.error('npm ci did not succeed; see above. Nothing was started.');
    process.exit(1);
  }
}

if (process.argv.includes('--test')) {
  const isThere = (program) => spawnSync('sh', ['-c', `command -v ${program}`]).status === 0;
  const missing = () => ['curl', 'openssl'].filter((program) => !isThere(program));
  if (missing().length > 0 && process.getuid?.() === 0 && isThere('apt-get')) {
    console.log(`Installing ${missing().join(' and ')} for the tests (once) …`);
    run('apt-get', ['-o', 'DPkg::Lock::Timeout=300', '-qq', 'update']);
    run('apt-get', ['-o', 'DPkg::Lock::Timeout=300', '-qq', 'install', '-y', '--no-install-recommends', 'ca-certificates', ...missing()]);
  }
  if (missing().length > 0) {
    console.error(`The tests need ${missing().join(' and ')}: install it, then run npm test again.`);
    process.exit(1);
  }
}
