// Makes a fresh clone ready: installs what package-lock.json names, only when it has changed.
// Plain JavaScript, because it is run by whatever Node the machine has (18 or newer).
import { spawnSync } from 'node:child_process';
import { existsSync, statSync } from 'node:fs';
import { fileURLToPath } from 'node:url';

const root = fileURLToPath(new URL('..', import.meta.url));
const changedAt = (path) => (existsSync(root + path) ? statSync(root + path).mtimeMs : 0);

if (changedAt('package-lock.json') > changedAt('node_modules/.package-lock.json')) {
  console.log('Installing dependencies (once; about ten seconds) …');
  const done = spawnSync('npm', ['ci', '--loglevel=error'], { cwd: root, stdio: 'inherit' });
  if (done.status !== 0) {
    console.error('npm ci did not succeed; see above. Nothing was started.');
    process.exit(done.status ?? 1);
  }
}
