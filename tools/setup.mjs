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
  const runs = (command) =>
    spawnSync('sh', ['-c', command], { env: { ...process.env, PATH: `${process.env.PATH}:/usr/sbin` } }).status === 0;
  /** What the tests talk to: how to see that it is there, and the Debian packages that have it. */
  const needed = {
    curl: ['command -v curl', 'curl'],
    openssl: ['command -v openssl', 'openssl'],
    script: ['command -v script', 'bsdutils'],
    Chromium: ['command -v chromium', 'chromium'],
    nginx: ['command -v nginx', 'nginx-light'],
    HAProxy: ['command -v haproxy', 'haproxy'],
    Redis: ['command -v redis-server', 'redis-server'],
    Caddy: ['command -v caddy', 'caddy'],
    promtool: ['command -v promtool', 'prometheus'],
    'systemd-analyze': ['command -v systemd-analyze', 'systemd'],
    PostgreSQL: ['ls /usr/lib/postgresql/*/bin/postgres', 'postgresql'],
    libfaketime: ['ls /usr/lib/*/faketime/libfaketimeMT.so.1', 'libfaketime'],
    PyJWT: ["/usr/bin/python3 -c 'import jwt, cryptography'", 'python3-jwt', 'python3-cryptography'],
  };
  const missing = () => Object.keys(needed).filter((what) => !runs(needed[what][0]));
  if (missing().length > 0 && process.getuid?.() === 0 && runs('command -v apt-get')) {
    console.log(`Installing ${missing().join(', ')} for the tests (once; a browser takes half a minute) …`);
    withoutServices(() => {
      const apt = (...args) => run('apt-get', ['-o', 'DPkg::Lock::Timeout=300', '-qq', ...args]);
      const packages = missing().flatMap((what) => needed[what].slice(1));
      return apt('update') && apt('install', '-y', '--no-install-recommends', 'ca-certificates', ...packages);
    });
  }
  if (missing().length > 0) {
    const isEnough = !process.env.CI && !missing().some((what) => what === 'curl' || what === 'openssl');
    console.error(
      `Not here: ${missing().join(', ')}. ${isEnough ? 'Tests that need it are skipped.' : 'Install it, then run npm test again.'}`,
    );
    if (!isEnough) process.exit(1);
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
