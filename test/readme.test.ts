import assert from 'node:assert/strict';
import { execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdirSync, readdirSync, readFileSync, statSync } from 'node:fs';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { folderFor, startProgram } from './support/program.ts';

const root = fileURLToPath(new URL('..', import.meta.url));
const read = (file: string): string => readFileSync(root + file, 'utf8');
const blocksOf = (page: string): string[] => [...read(page).matchAll(/```sh\n([\s\S]*?)```/g)].map(([, block = '']) => block);
const commandsOf = (block: string): string =>
  block
    .split('\n')
    .filter((line) => line !== '' && !line.startsWith('#'))
    .join('\n');

const [startBlock = '', curlBlock = '', testBlock = '', ownRoutesBlock = '', serveBlock = '', ...others] = blocksOf('README.md');

test('README.zh-TW.md has the same commands', () => {
  assert.deepEqual(blocksOf('README.zh-TW.md').map(commandsOf), blocksOf('README.md').map(commandsOf));
  assert.deepEqual(others, [], 'a block that no test runs');
});

test('each npm command of the docs is one', () => {
  const { scripts } = JSON.parse(read('package.json'));
  for (const block of [startBlock, testBlock, ownRoutesBlock, ...blocksOf('CONTRIBUTING.md')]) {
    for (const [, run, name = ''] of block.matchAll(/^npm (run )?(\w+)/gm)) {
      assert.ok(scripts[name] && (run || ['start', 'test'].includes(name)), `npm ${run ?? ''}${name}`);
    }
  }
});

test('the lines for a second terminal log in, call, refresh and log out', async (t) => {
  const folder = folderFor(t);
  const program = await startProgram(t, { folder: `${folder}/.portcullis/dev`, cwd: folder });
  const printed = execFileSync('sh', ['-euc', curlBlock.replaceAll(':5000', `:${program.port}`)], { cwd: folder, encoding: 'utf8' });
  const [whoAmI, tokens, out, refused] = printed
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line));
  assert.deepEqual(whoAmI, { logged_in_as: 'testuser' });
  assert.match(tokens.refresh_token, /^prt_/);
  assert.deepEqual(out, { msg: 'Successfully logged out' });
  assert.equal(`${refused.status} ${refused.msg}`, '401 Token has been revoked');
});

test('the lines for real, run in the checkout, start a server that lets alice in, and leave nothing behind in it', async (t) => {
  const folder = folderFor(t);
  const own = `${folder}/portcullis`;
  mkdirSync(own);
  execFileSync(
    'openssl',
    [
      'req',
      '-x509',
      '-newkey',
      'ec',
      '-pkeyopt',
      'ec_paramgen_curve:P-256',
      '-nodes',
      '-keyout',
      'key.pem',
      '-out',
      'cert.pem',
      '-days',
      '1',
      '-subj',
      '/CN=api.example.com',
      '-addext',
      'subjectAltName=DNS:api.example.com',
    ],
    { cwd: own, stdio: 'ignore' },
  );
  const before = readdirSync(root);
  const child = spawn('sh', ['-euc', serveBlock], {
    cwd: root,
    detached: true, // a group of its own, for the server below the shell
    stdio: ['ignore', 'pipe', 'pipe'],
    env: {
      PATH: process.env.PATH,
      HOME: folder,
      PORTCULLIS_HOST: '127.0.0.1',
      PORTCULLIS_PORT: '0',
      PORTCULLIS_ADMIN_LISTEN: 'none',
    },
  });
  const { pid = 0 } = child;
  const ended = once(child, 'close');
  t.after(async () => {
    if (child.exitCode === null && child.signalCode === null) process.kill(-pid, 'SIGKILL');
    await ended;
  });
  let output = '';
  const port = await new Promise<string>((resolve, reject) => {
    for (const stream of [child.stdout, child.stderr]) {
      stream.on('data', (chunk) => {
        output += chunk;
        const found = /listening\D+https:\/\/[^:]+:(\d+)/i.exec(output);
        if (found?.[1]) resolve(found[1]);
      });
    }
    void ended.then(([code]) => reject(new Error(`ended with ${code}: ${output}`)));
  });
  const answer = execFileSync(
    'curl',
    [
      '-sS',
      '--cacert',
      'cert.pem',
      '--resolve',
      `api.example.com:${port}:127.0.0.1`,
      `https://api.example.com:${port}/login`,
      '-H',
      'Content-Type: application/json',
      '-d',
      '{"username":"alice","password":"a long sentence is a good password"}',
    ],
    { cwd: own, encoding: 'utf8' },
  );
  assert.match(JSON.parse(answer).access_token, /^ey/);
  assert.deepEqual(readdirSync(folder), ['portcullis']);
  assert.ok(existsSync(`${own}/data/portcullis.db`));
  assert.equal(statSync(`${own}/master-secret`).mode & 0o777, 0o600);
  assert.deepEqual(readdirSync(root), before);
  assert.doesNotMatch(serveBlock, /\bexport\b/);
  process.kill(-pid, 'SIGTERM');
  await ended;
  assert.match(output, /Ended\.\n$/);
});

test('the line that defines "portcullis" is the same at the head of the commands', () => {
  const [line = ''] = /^portcullis\(\).*$/m.exec(serveBlock) ?? [];
  assert.ok(line && blocksOf('docs/reference/cli.md')[0]?.includes(line));
});
