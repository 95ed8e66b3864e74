// Makes a fresh clone ready: installs what package-lock.json names, only when it has changed; with --test also the programs
// that the tests talk to. Plain JavaScript, because it is run by whatever Node the machine has (18 or newer).
import { spawnSync } from 'node:child_process';
import { existsSync, rmSync, statSync, writeFileSync } from 'node:fs';
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
  const isThere = (program) => spawnSync('sh', ['-c', `command -v ${program} || command -v /usr/sbin/${program}`]).status === 0;
  /** Each program with the Debian package that has it. */
  const needed = { curl: 'curl', openssl: 'openssl', chromium: 'chromium', nginx: 'nginx-light', haproxy: 'haproxy' };
  const missing = () => Object.keys(needed).filter((program) => !isThere(program));
  if (missing().length > 0 && process.getuid?.() === 0 && isThere('apt-get')) {
    console.log(`Installing ${missing().join(', ')} for the tests (once; a browser takes half a minute) …`);
    withoutServices(() => {
      const apt = (...args) => run('apt-get', ['-o', 'DPkg::Lock::Timeout=300', '-qq', ...args]);
      const packages = missing().map((program) => needed[program]);
      return apt('update') && apt('install', '-y', '--no-install-recommends', 'ca-certificates', ...packages);
    });
  }
  if (missing().length > 0) {
    console.error(`The tests need ${missing().join(', ')}: install what is missing, then run npm test again.`);
    process.exit(1);
  }
}

/** Debian starts a server as soon as it is installed, unless this file says no; the tests start their own. */
function withoutServices(install) {
  const policy = '/usr/sbin/policy-rc.d';
  if (existsSync(policy)) return install();
  writeFileSync(policy, '#!/bin/sh\nexit 101\n', { mode: 0o755 });
  try {
    return install();
  } finally {
    rmSync(policy);
  }
}
