import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { closeSync, constants, existsSync, openSync, readdirSync, readFileSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { setTimeout as wait } from 'node:timers/promises';
import tls from 'node:tls';
import { folderFor, logIn, runCommand, startProgram, wideLimits } from './support/program.ts';
import { speak } from './support/speak.ts';

const SECRETS = ['one secret of thirty-two bytes or more', 'another secret, as long as the first'];

test('a start that is refused changes nothing: not under a wrong secret, even with another algorithm', async (t) => {
  const folder = folderFor(t);
  const settings = { MASTER_SECRET: SECRETS[0] ?? '' };
  const first = await startProgram(t, { folder, settings });
  const { refresh } = await logIn(first);
  await first.stop();
  const env = {
    PORTCULLIS_DATA_DIR: folder,
    PORTCULLIS_PORT: '0',
    PORTCULLIS_MASTER_SECRET: SECRETS[1] ?? '',
    PORTCULLIS_SIGNING_ALG: 'ES256',
  };
  const refused = await runCommand(['dev'], { env });
  assert.equal(refused.code, 2, refused.stderr);
  assert.match(refused.stderr, /master secret/i);
  const again = await startProgram(t, { folder, settings });
  assert.equal((await again.ask('POST', '/refresh', { bearer: refresh })).status, 200);
});

test(
  'a security log that cannot be written stops nothing, and the server can still be stopped',
  { skip: !existsSync('/dev/full') },
  async (t) => {
    const program = await startProgram(t, { settings: { LOG_FILE: '/dev/full' } });
    for (const from of ['127.0.0.2', '127.0.0.3']) assert.equal((await program.ask('GET', '/protected', { from })).status, 401);
    assert.equal(await program.stop(), 0);
  },
);

test('the id of what the wire refuses is in the log, as that of any first refusal', async (t) => {
  const program = await startProgram(t);
  const answers = [
    await speak(program, 'GET / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n'),
    await speak(program, 'GET / HTTP/1.1\r\nHost: localhost\r\n\r\n', { plain: true }),
    await speak(program, 'CONNECT localhost:443 HTTP/1.1\r\nHost: localhost\r\n\r\n'),
    await speak(program, `GET / HTTP/1.1\r\nHost: localhost\r\nX: ${'x'.repeat(20_000)}\r\n\r\n`),
  ];
  await program.stop();
  const log = readFileSync(join(program.folder, 'security.log'), 'utf8');
  for (const answer of answers) {
    const id = String(answer.headers['x-request-id']);
    assert.ok(log.includes(id), answer.text);
  }
});

test('logins that nobody waits for any more make no others wait', async (t) => {
  const program = await startProgram(t, { settings: wideLimits });
  const login = (username: string): string => {
    const body = JSON.stringify({ username, password: 'wrong' });
    return `POST /login HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: ${body.length}\r\n\r\n${body}`;
  };
  for (let i = 0; i < 60; i += 1) {
    const socket = tls.connect({
      host: '127.0.0.1',
      port: program.port,
      servername: 'localhost',
      ca: program.ca,
      ALPNProtocols: ['http/1.1'],
    });
    socket.on('error', () => {});
    socket.write(login(`nobody ${i}`));
    socket.once('secureConnect', () => setTimeout(() => socket.destroy(), 30));
  }
  await wait(400);
  assert.equal((await program.ask('POST', '/login', { json: { username: 'testuser', password: 'password123' } })).status, 200);
  await program.stop();
  const table = execFileSync(
    process.execPath,
    [
      '-e',
      `
    const { DatabaseSync } = require('node:sqlite');
    const db = new DatabaseSync(${JSON.stringify(join(program.folder, 'portcullis.db'))});
    console.log(db.prepare("select coalesce(sum(count), 0) as n from audit where action = 'login_failed'").get().n);`,
    ],
    { encoding: 'utf8' },
  );
  assert.ok(Number(table) < 60, `${table.trim()} of 60 were hashed to the end`);
});

test("dev touches no store that is not a demo's, and leaves nothing in its folder", async (t) => {
  const folder = folderFor(t);
  const env = { PORTCULLIS_DATA_DIR: folder, PORTCULLIS_PORT: '0' };
  assert.equal((await runCommand(['users', 'add', 'alice', '--password-stdin'], { env, input: 'a long sentence is a good one' })).code, 0);
  const before = readdirSync(folder);
  for (const more of [{}, { PORTCULLIS_MASTER_SECRET: SECRETS[0] ?? '' }] as Record<string, string>[]) {
    const { code, stderr } = await runCommand(['dev'], { env: { ...env, ...more } });
    assert.equal(code, 2);
    assert.match(stderr, /is no demo's/);
  }
  assert.equal((await runCommand(['keys', 'rotate', '--dev'], { env })).code, 2);
  assert.deepEqual(
    readdirSync(folder).filter((name) => !name.endsWith('.lock')),
    before,
  );
  const { stdout } = await runCommand(['users', 'list', '--json'], { env });
  assert.deepEqual(
    JSON.parse(stdout).map(({ username }: { username: string }) => username),
    ['alice'],
  );
});

test("nor one elsewhere, from a demo's folder; but its own demo it takes, under whatever secret", async (t) => {
  const [demo, own] = [folderFor(t), folderFor(t)];
  const password = { input: 'a long sentence is a good one' };
  await (await startProgram(t, { folder: demo })).stop();
  assert.equal(
    (await runCommand(['users', 'add', 'alice', '--password-stdin'], { env: { PORTCULLIS_DATA_DIR: own }, ...password })).code,
    0,
  );
  const env = { PORTCULLIS_DATA_DIR: demo, PORTCULLIS_DATABASE_URL: `sqlite:${join(own, 'portcullis.db')}`, PORTCULLIS_PORT: '0' };
  assert.equal((await runCommand(['dev'], { env })).code, 2);
  assert.equal(JSON.parse((await runCommand(['users', 'list', '--json'], { env: { PORTCULLIS_DATA_DIR: own } })).stdout).length, 1);

  const folder = folderFor(t);
  const secret = { PORTCULLIS_DATA_DIR: folder, PORTCULLIS_MASTER_SECRET: SECRETS[0] ?? '' };
  assert.equal((await runCommand(['users', 'add', 'bob', '--dev', '--password-stdin'], { env: secret, ...password })).code, 0);
  const settings = { MASTER_SECRET: SECRETS[0] ?? '' };
  await (await startProgram(t, { folder, settings })).stop();
  assert.equal(
    (await runCommand(['users', 'set-password', 'testuser', '--dev', '--password-stdin'], { env: secret, ...password })).code,
    0,
  );
  await (await startProgram(t, { folder, settings })).stop();
});

test('a security log that is a pipe whose reader stands still holds nobody, and the server can be stopped', async (t) => {
  const folder = folderFor(t);
  const pipe = join(folder, 'pipe');
  execFileSync('mkfifo', [pipe]);
  const reader = openSync(pipe, constants.O_RDWR | constants.O_NONBLOCK);
  t.after(() => closeSync(reader));
  for (let full = false; !full;) {
    try {
      writeSync(reader, Buffer.alloc(4_096, 'x'));
    } catch {
      full = true;
    }
  }
  const program = await startProgram(t, { settings: { LOG_FILE: pipe } });
  await logIn(program);
  assert.equal(await program.stop(), 0);
});

test('thirty logins at once on one connection leave no listener behind that Node would warn of', async (t) => {
  const program = await startProgram(t, { settings: wideLimits });
  const body = JSON.stringify({ username: 'testuser', password: 'password123' });
  const one = `POST /login HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: ${body.length}\r\n\r\n${body}`;
  const socket = tls.connect({
    host: '127.0.0.1',
    port: program.port,
    servername: 'localhost',
    ca: program.ca,
    ALPNProtocols: ['http/1.1'],
  });
  socket.write(one.repeat(30));
  let text = '';
  for await (const chunk of socket) {
    text += chunk;
    if (text.split('HTTP/1.1 200').length > 30) break;
  }
  await program.stop();
  assert.doesNotMatch(program.output(), /Warning/);
});
