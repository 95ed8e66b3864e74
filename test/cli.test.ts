import assert from 'node:assert/strict';
import { spawn, spawnSync } from 'node:child_process';
import { generateKeyPairSync } from 'node:crypto';
import { once } from 'node:events';
import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync, copyFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { test, type TestContext } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { commands } from '../packages/server/src/cli/commands.ts';
import { type Column, localTime, table } from '../packages/server/src/cli/print.ts';
import { run as runHere } from '../packages/server/src/cli/run.ts';
import type { Voice } from '../packages/server/src/cli/terminal.ts';
import { cutTo, widthOf } from '../packages/server/src/cli/width.ts';
import { commandsReference } from '../tools/reference/commands.ts';
import { without } from './support/needs.ts';
import { demoUser, folderFor, logIn, runCommand, startProgram, wideLimits } from './support/program.ts';

const main = fileURLToPath(new URL('../packages/server/bin/portcullis.mjs', import.meta.url));
const PASSWORD = 'correct horse battery staple';
const ENV = { PATH: process.env.PATH, HOME: process.env.HOME };

type Ran = Awaited<ReturnType<typeof runCommand>>;

/** A command on the store of a folder, as an operator runs it who has that in the environment and nothing else. */
const at =
  (folder: string, settings: Record<string, string> = {}) =>
  (args: readonly string[], input?: string): Promise<Ran> =>
    runCommand(args, { env: { TZ: 'UTC', PORTCULLIS_DATA_DIR: folder, ...settings }, ...(input !== undefined && { input }), cwd: folder });

function jsonOf({ code, stdout, stderr }: Ran): any {
  // whatever the command says
  assert.equal(code, 0, stderr);
  return JSON.parse(stdout);
}

function refused(ran: Ran, code: number, line: RegExp): void {
  assert.equal(ran.code, code, ran.stdout + ran.stderr);
  assert.equal(ran.stdout, '');
  assert.match(ran.stderr, line);
}

async function eventually(holds: () => Promise<boolean>, what: string): Promise<void> {
  for (let i = 0; i < 60; i++) {
    if (await holds()) return;
    await sleep(50);
  }
  assert.fail(what);
}

// --- Transcripts: what commands print, word for word. UPDATE=1 writes them anew. ---

type Line = readonly string[] | { readonly args: readonly string[]; readonly input: string };

/** Runs the lines one after the other and compares all that they print with `test/cli/<name>.txt`. */
async function transcript(name: string, folder: string, lines: readonly Line[], run = at(folder)): Promise<void> {
  const steady = steadier(folder);
  let text = '';
  for (const line of lines) {
    const { args, input } = 'args' in line ? line : { args: line, input: undefined };
    const { code, stdout, stderr } = await run(args, input);
    const words = args.map((word) => (/^[\w./:=-]+$/.test(word) ? word : `'${word}'`));
    text += `$ ${steady(['portcullis', ...words].join(' '))}\n${steady(stdout)}${steady(stderr).replace(/^(?=.)/gm, '2> ')}${code === 0 ? '' : `exit ${code}\n`}\n`;
  }
  holds(`cli/${name}.txt`, text);
}

/** In this process, which is quicker: for what asks nothing of the standard input and leaves nothing running. */
async function here(args: readonly string[], env: Record<string, string> = {}): Promise<Ran> {
  let stdout = '';
  let stderr = '';
  const code = await runHere({
    argv: args,
    env,
    stdout: {
      write: (text) => {
        stdout += text;
      },
    },
    stderr: {
      write: (text) => {
        stderr += text;
      },
    },
  });
  return { code, stdout, stderr };
}

function holds(path: string, text: string): void {
  const file = fileURLToPath(new URL(path, import.meta.url));
  if (process.env.UPDATE) return writeFileSync(file, text);
  assert.equal(
    text,
    existsSync(file) ? readFileSync(file, 'utf8') : '',
    `test/${path} says otherwise; if it should not, renew it with UPDATE=1`,
  );
}

/** Ids, times, keys and places by the order in which they come, as wide as they are. */
function steadier(folder: string): (text: string) => string {
  const seen = new Map<string, string>();
  const number = (found: string, prefix: string): string =>
    seen.get(found) ?? seen.set(found, prefix + String(seen.size + 1).padStart(found.length - prefix.length, '0')).get(found) ?? '';
  return (text) =>
    text
      .replaceAll(folder, '/FOLDER')
      .replace(/\b(usr|ses|aud)_[0-9a-f]{32}\b/g, (id) => number(id, id.slice(0, 4)))
      .replace(/(?<![\w-])[\w-]{43}(?![\w-])/g, (kid) => number(kid, 'kid_'))
      .replace(
        /\b\d{4}-\d\d-\d\d([ T])\d\d:\d\d:\d\d(\.\d{3}Z)?/g,
        (_, gap: string, rest = '') => `2026-01-31${gap}12:00:00${rest && '.000Z'}`,
      )
      .replace(/\b[0-9a-f]{8}-[0-9a-f-]{27}\b/g, '00000000-0000-4000-8000-000000000000')
      .replace(/\b[\d,]+ bytes/, 'N bytes')
      .replace(/localhost:\d+/g, 'localhost:PORT')
      .replace(/port \d+ on/g, 'port PORT on');
}

test('help: every command says what it takes, with examples', async (t) => {
  const folder = folderFor(t);
  const names = ['', 'users', 'sessions', 'keys', 'audit', ...commands.map(({ name }) => name)];
  await transcript(
    'help',
    folder,
    names.map((name) => [...name.split(' ').filter(Boolean), '--help']),
    (args) => here(args),
  );
  for (const { name, examples } of commands) {
    const { stdout } = await here([...name.split(' '), '--help']);
    for (const [line] of examples) assert.ok(stdout.includes(`  portcullis ${line}`), name);
  }
  assert.deepEqual(await at(folder)(['users', 'add', '--help']), await here(['users', 'add', '--help']));
  assert.deepEqual(readdirSync(folder), [], 'help makes nothing');
});

test('wrong usage is told in one line, with what was meant and where to look', async (t) => {
  const folder = folderFor(t);
  await transcript(
    'usage',
    folder,
    [
      [],
      ['users'],
      ['usres', 'list'],
      ['srve'],
      ['users', 'lst'],
      ['serve', '--prt', '6000'],
      ['users', 'list', '--data-dir'],
      ['users', 'add'],
      ['users', 'add', 'anna', 'hunter2'],
      ['users', 'add', 'anna', '--password=hunter2'],
      ['keys', 'rotate', '--alg', 'HS256'],
      ['audit', 'list', '--limit', '0'],
      ['sessions', 'end'],
      ['sessions', 'end', 'ses_1', '--user', 'anna'],
    ],
    (args) => here(args),
  );
  for (const args of [
    ['users', 'add'],
    ['users', 'add', 'anna'],
  ])
    refused(await at(folder)(args), 2, /^Wrong usage: .*See "portcullis users add --help"\.\n$/);
  assert.deepEqual(readdirSync(folder), [], 'wrong usage makes nothing');
});

test('without a store, a command says so and makes none; "users add" and "migrate" make one', async (t) => {
  const folder = folderFor(t);
  const run = at(join(folder, 'deep/er'));
  mkdirSync(join(folder, 'deep/er'), { recursive: true });
  const inNone = at(folder, { PORTCULLIS_DATA_DIR: join(folder, 'none') });
  const store = ['--data-dir', join(folder, 'none')];
  for (const args of [
    ['users', 'list'],
    ['users', 'show', 'anna'],
    ['users', 'remove', 'anna', '--yes'],
    ['sessions', 'end', 'ses_1'],
    ['keys', 'rotate'],
    ['audit', 'tail'],
    ['backup', 'copy.db'],
    ['migrate', '--status'],
  ]) {
    refused(await here([...args, ...store]), 2, /^Not done: there is no store at .*none\/portcullis\.db: .*--data-dir.*\n$/);
  }
  refused(await inNone(['users', 'list']), 2, /^Not done: there is no store at .*none\/portcullis\.db: /);
  refused(await here(['users', 'list', '--database-url', 'sqlite::memory:']), 2, /^Not done: PORTCULLIS_DATABASE_URL: a store in memory/);
  refused(
    await inNone(['users', 'add', 'anna', '--password-stdin'], 'short\n'),
    1,
    /^Password too short: A password has at least 15 characters.* \(password_too_short\)\n$/,
  );
  refused(await inNone(['users', 'add', ' anna', '--password-stdin'], `${PASSWORD}\n`), 1, /^Invalid username: .*\(username_invalid\)\n$/);
  assert.deepEqual(readdirSync(folder), ['deep'], 'what is refused makes nothing');

  const added = await inNone(['users', 'add', 'anna', '--password-stdin'], `${PASSWORD}\n`);
  assert.deepEqual([added.code, added.stderr], [0, `Made a store: ${join(folder, 'none/portcullis.db')}\n`]);
  assert.equal(statSync(join(folder, 'none')).mode & 0o777, 0o700);
  assert.equal(statSync(join(folder, 'none/portcullis.db')).mode & 0o777, 0o600);
  assert.match((await run(['migrate'])).stdout, /0001_first +run/);
  assert.equal((await run(['users', 'list'])).code, 0);
});

test('a store without tables, and a file that is none, are told as such and left as they are', async (t) => {
  const folder = folderFor(t);
  const run = at(folder);
  const file = join(folder, 'portcullis.db');
  writeFileSync(file, '');
  refused(await run(['users', 'list']), 2, /not of this version: "portcullis migrate"/);
  assert.match((await run(['migrate', '--status'])).stdout, /0001_first +due/);
  writeFileSync(file, 'this is a letter to my aunt, and no database at all. '.repeat(100));
  const before = readFileSync(file, 'utf8');
  for (const args of [['users', 'list'], ['migrate'], ['users', 'add', 'anna', '--password-stdin']])
    refused(await run(args, `${PASSWORD}\n`), 2, /^Not done: the store \/.*\/portcullis\.db cannot be opened: file is not a database\n$/);
  assert.equal(readFileSync(file, 'utf8'), before);
});

test('an operator beside a running server', async (t) => {
  const program = await startProgram(t, { settings: wideLimits });
  await logIn(program);
  await program.ask('POST', '/login', { json: { username: 'evil\u001b[31m\nname\u202e', password: 'x' } });
  const [{ kid }] = jsonOf(await here(['keys', 'list', '--json', '--data-dir', program.folder]));
  await transcript(
    'operator',
    program.folder,
    [
      { args: ['users', 'add', 'anna', '--password-stdin'], input: `${PASSWORD}\n` },
      { args: ['users', 'add', 'ANNA', '--password-stdin'], input: `${PASSWORD}\n` },
      { args: ['users', 'add', 'ben', '--password-stdin'], input: 'passwordpassword\n' },
      { args: ['users', 'add', '多語 😀', '--password-stdin'], input: `${PASSWORD}\r\nanything\n` },
      ['users', 'list'],
      ['users', 'show', 'Anna'],
      ['users', 'show', 'anna', '--json'],
      ['users', 'show', 'nobody'],
      ['sessions', 'list'],
      ['sessions', 'list', '--user', 'anna'],
      ['users', 'disable', 'testuser'],
      ['users', 'enable', 'testuser', '--json'],
      ['users', 'unlock', 'testuser'],
      ['users', 'unlock', 'TestUser', '--dev'],
      ['users', 'unlock', 'nobody', '--dev'],
      { args: ['users', 'set-password', 'testuser', '--password-stdin'], input: 'this is not the demo any more' },
      ['users', 'remove', '多語 😀'],
      ['users', 'remove', '多語 😀', '--yes'],
      ['users', 'list', '--json'],
      ['sessions', 'end', '--user', 'anna'],
      ['sessions', 'end', 'ses_0'],
      ['keys', 'list'],
      ['keys', 'rotate'],
      ['keys', 'rotate', '--dev'],
      ['keys', 'list'],
      ['migrate'],
      ['migrate', '--status'],
      ['audit', 'list'],
      ['audit', 'list', '--action', 'login_failed', '--json'],
      ['keys', 'compromise', kid, '--dev'],
      ['keys', 'compromise', kid, '--yes'],
      ['keys', 'compromise', kid, '--yes', '--dev', '--reason', 'a laptop was stolen'],
      ['keys', 'compromise', kid, '--dev', '--json'],
      ['keys', 'compromise', 'nobody', '--yes'],
      ['keys', 'list'],
      ['audit', 'list', '--action', 'key_compromised'],
    ],
    (args, input) =>
      /list|show|status/.test(args.join(' ')) ? here(args, { PORTCULLIS_DATA_DIR: program.folder }) : at(program.folder)(args, input),
  );
});

// --- Beside a running server ---

test('what an operator takes away, the running server refuses from the next request on', async (t) => {
  const program = await startProgram(t, { settings: wideLimits });
  const run = at(program.folder);
  const isRefused = async ({ access, refresh }: { access: string; refresh: string }, what: string): Promise<void> => {
    const asked = await program.ask('GET', '/protected', { bearer: access });
    assert.deepEqual([asked.status, asked.json.code], [401, 'token_revoked'], what);
    assert.equal((await program.ask('POST', '/refresh', { bearer: refresh })).status, 401, what);
  };
  const works = async ({ access }: { access: string }): Promise<void> =>
    assert.equal((await program.ask('GET', '/protected', { bearer: access })).status, 200);

  const [first, second] = [await logIn(program), await logIn(program)];
  await works(first);
  const [, { id }] = jsonOf(await here(['sessions', 'list', '--json', '--data-dir', program.folder])); // newest first
  assert.equal((await run(['sessions', 'end', id])).code, 0);
  await isRefused(first, 'sessions end ID');
  await works(second);
  assert.equal(jsonOf(await run(['sessions', 'end', '--user', demoUser.username, '--json'])).sessionsEnded, 1);
  await isRefused(second, 'sessions end --user');

  const third = await logIn(program);
  assert.equal((await run(['users', 'disable', demoUser.username])).code, 0);
  await isRefused(third, 'users disable');
  assert.equal((await program.ask('POST', '/login', { json: demoUser })).status, 401);
  assert.equal((await run(['users', 'enable', demoUser.username])).code, 0);

  const fourth = await logIn(program);
  assert.equal((await run(['users', 'set-password', demoUser.username, '--password-stdin'], `${PASSWORD}\n`)).code, 0);
  await isRefused(fourth, 'users set-password');
  assert.equal((await program.ask('POST', '/login', { json: demoUser })).status, 401);

  const fifth = await logIn(program, { username: demoUser.username, password: PASSWORD });
  assert.equal((await run(['users', 'remove', demoUser.username, '--yes'])).code, 0);
  await isRefused(fifth, 'users remove');
});

test('a new key is taken up by the running server, and tokens of the old one still work', async (t) => {
  const program = await startProgram(t, { settings: wideLimits });
  const run = at(program.folder);
  const kidOf = (token: string): string => JSON.parse(Buffer.from(token.split('.')[0] ?? '', 'base64url').toString()).kid;
  const old = await logIn(program);
  const pem = join(program.folder, 'own.pem');
  writeFileSync(pem, generateKeyPairSync('rsa', { modulusLength: 2048 }).privateKey.export({ type: 'pkcs8', format: 'pem' }));
  const jwk = generateKeyPairSync('ec', { namedCurve: 'P-256' }).privateKey.export({ format: 'jwk' });

  const made: string[] = [];
  for (const [args, alg, input] of [
    [['keys', 'rotate', '--now'], 'EdDSA'],
    [['keys', 'import', pem, '--now'], 'RS256'],
    [['keys', 'import', '-', '--now'], 'ES256', JSON.stringify(jwk)],
  ] as const) {
    const key = jsonOf(await run([...args, '--dev', '--json'], input));
    assert.deepEqual([key.alg, key.state], [alg, 'active']);
    made.push(key.kid);
    await eventually(async () => kidOf((await logIn(program)).access) === key.kid, `no login is signed with the ${alg} key`);
    assert.equal((await program.ask('GET', '/protected', { bearer: (await logIn(program)).access })).status, 200);
  }
  assert.equal((await program.ask('GET', '/protected', { bearer: old.access })).status, 200);
  const published = (await program.ask('GET', '/.well-known/jwks.json')).json.keys.map(({ kid }: { kid: string }) => kid);
  assert.deepEqual(published.toSorted(), [kidOf(old.access), ...made].toSorted());

  const keys = jsonOf(await here(['keys', 'list', '--json', '--data-dir', program.folder]));
  refused(await run(['keys', 'import', pem, '--dev']), 1, /^Key already present: .*\(key_present\)\n$/);
  refused(await run(['keys', 'import', '-', '--dev'], 'no key'), 1, /^Unusable key: .*\(key_unusable: not a private key\)\n$/);
  refused(await run(['keys', 'import', join(program.folder, 'gone.pem'), '--dev']), 2, /^Not done: .*gone\.pem is not there\n$/);
  const otherSecret = at(program.folder, { PORTCULLIS_MASTER_SECRET: 'q3ZkT0v9yX7uB1nLw5cRj8sHd2fGm6aE4pKi' });
  for (const args of [
    ['keys', 'rotate', '--now'],
    ['keys', 'import', pem],
  ])
    refused(await otherSecret(args), 2, /^Not done: PORTCULLIS_MASTER_SECRET: the master secret does not open the key/);
  assert.deepEqual(jsonOf(await here(['keys', 'list', '--json', '--data-dir', program.folder])), keys, 'what is refused changes nothing');
});

test('a key imported before the first start signs from the start on', async (t) => {
  const folder = folderFor(t);
  const run = at(folder);
  assert.equal((await run(['migrate', '--dev'])).code, 0);
  const { privateKey } = generateKeyPairSync('ed25519');
  const { kid, state } = jsonOf(await run(['keys', 'import', '-', '--dev', '--json'], privateKey.export({ type: 'pkcs8', format: 'pem' })));
  assert.equal(state, 'active');
  const program = await startProgram(t, { folder });
  const { access } = await logIn(program);
  assert.ok(
    Buffer.from(access.split('.')[0] ?? '', 'base64url')
      .toString()
      .includes(kid),
  );
});

test('a backup of a running server, put back, lets an old session go on', async (t) => {
  const folder = folderFor(t);
  const program = await startProgram(t, { folder, settings: wideLimits });
  const run = at(folder);
  const { refresh } = await logIn(program);
  const copy = join(folder, 'copy.db');
  const [backedUp] = await Promise.all([run(['backup', copy, '--json']), ...Array.from({ length: 5 }, () => logIn(program))]);
  assert.equal(jsonOf(backedUp).bytes, statSync(copy).size);
  assert.equal(statSync(copy).mode & 0o777, 0o600);
  assert.deepEqual(
    readdirSync(folder).filter((name) => name.startsWith('copy.db')),
    ['copy.db'],
    'one file, and nothing beside it',
  );

  const before = readFileSync(copy);
  refused(await run(['backup', copy]), 2, /^Not done: .*copy\.db is there already, and a backup overwrites nothing\n$/);
  refused(await run(['backup', join(folder, 'no/such/copy.db')]), 2, /^Not done: .* is not there\n$/);
  assert.deepEqual(readFileSync(copy), before);

  assert.equal((await run(['users', 'remove', demoUser.username, '--yes'])).code, 0);
  assert.equal((await program.ask('POST', '/refresh', { bearer: refresh })).status, 401);
  await program.stop();
  for (const name of ['portcullis.db', 'portcullis.db-wal', 'portcullis.db-shm']) rmSync(join(folder, name), { force: true });
  copyFileSync(copy, join(folder, 'portcullis.db'));
  const restored = await startProgram(t, { folder });
  const refreshed = await restored.ask('POST', '/refresh', { bearer: refresh });
  assert.equal(refreshed.status, 200, refreshed.text);
  assert.equal((await restored.ask('GET', '/protected', { bearer: refreshed.json.access_token })).status, 200);
});

test('a damaged store is not backed up', async (t) => {
  const folder = folderFor(t);
  const run = at(folder);
  await run(['users', 'add', 'anna', '--password-stdin'], `${PASSWORD}\n`);
  const file = join(folder, 'portcullis.db');
  const db = new DatabaseSync(file);
  const pages = db.prepare(`select rootpage from sqlite_schema where tbl_name in ('users', 'sessions', 'audit')`).all();
  db.close();
  const bytes = readFileSync(file);
  for (const { rootpage } of pages) bytes.fill(0xaa, (Number(rootpage) - 1) * 4_096, (Number(rootpage) - 1) * 4_096 + 16); // the heads
  writeFileSync(file, bytes);
  refused(await run(['backup', join(folder, 'copy.db')]), 2, /^Not done: the store .* is damaged, so nothing was backed up: .*\n$/);
  assert.deepEqual(
    readdirSync(folder).filter((name) => name.startsWith('copy')),
    [],
  );
});

test('audit list finds what is on record of a user by any spelling, and of a request by its id', async (t) => {
  const program = await startProgram(t, { settings: { ...wideLimits, REFRESH_GRACE: '0' } });
  const first = await logIn(program);
  await program.ask('POST', '/logout', { bearer: first.access });
  const { refresh } = await logIn(program);
  await program.ask('POST', '/refresh', { bearer: refresh });
  const replayed = await program.ask('POST', '/refresh', { bearer: refresh });
  await program.ask('POST', '/login', { json: { username: 'nobody', password: 'x' } });
  const list = async (...args: string[]) => jsonOf(await here(['audit', 'list', '--json', '--data-dir', program.folder, ...args]));
  const actions = async (...args: string[]) => (await list(...args)).map(({ action }: { action: string }) => action);

  const ofUser = ['refresh_replayed', 'login', 'logout', 'login', 'user_added'];
  assert.deepEqual(await actions('--username', 'TestUser'), ofUser);
  const [{ userId }] = await list('--username', 'testuser', '--action', 'login');
  assert.deepEqual(await actions('--username', userId), ofUser);
  assert.deepEqual(await actions('--username', 'nobody'), ['login_failed']);
  for (const id of [replayed.json.instance, String(replayed.headers['x-request-id']).toUpperCase()])
    assert.deepEqual(await actions('--request', id), ['refresh_replayed']);
  assert.deepEqual(await actions('--request', '0'), []);
});

test('a key that signs at once is told for how long, where another is next already', async (t) => {
  const program = await startProgram(t);
  const rotate = async (...args: string[]) => at(program.folder)(['keys', 'rotate', '--dev', '--json', ...args]);
  const next = jsonOf(await rotate());
  const ran = await rotate('--now');
  assert.equal(jsonOf(ran).state, 'active');
  assert.match(ran.stderr, new RegExp(`^Only until \\d{4}-.*: the key ${next.kid}, which was next already, signs from then on\\.\\n$`));
  assert.equal((await rotate()).stderr, '');
});

test('audit tail shows what comes, a summed row again when it has grown, and ends with Ctrl-C', async (t) => {
  const program = await startProgram(t, { settings: wideLimits });
  for (let i = 0; i < 12; i++) await program.ask('POST', '/login', { json: { username: `someone ${i}`, password: 'x' } });
  const tail = start(t, ['audit', 'tail', '--json'], program.folder);
  const entries = (): { action: string; count: number; username: string; id: string }[] =>
    tail
      .output()
      .split('\n')
      .filter(Boolean)
      .map((line) => JSON.parse(line));
  await eventually(async () => entries().length === 10, 'the last ten');
  const summed = entries().find(({ count }) => count > 1);
  assert.deepEqual([summed?.action, summed?.count], ['login_failed', 3], 'from the tenth name on');
  assert.equal(entries().filter(({ action }) => action === 'password_spraying').length, 1);
  await logIn(program);
  await eventually(async () => entries().at(-1)?.action === 'login', 'the login comes');
  await program.ask('POST', '/login', { json: { username: 'someone', password: 'x' } });
  await eventually(async () => entries().length === 12, 'the sum comes again');
  // The hour may have turned meanwhile; then it is a new sum.
  const last = entries().at(-1);
  assert.equal(last?.count, last?.id === summed?.id ? 4 : 1);
  assert.equal(await tail.stop('SIGINT'), 0);
});

// --- Start and end ---

test('dev says what it is, and its lines for the shell work as they stand', async (t) => {
  const folder = join(folderFor(t), 'o\'dd $(dir) "x"');
  const program = await startProgram(t, { folder });
  await eventually(async () => program.output().includes('Ctrl-C ends it'), 'it says all');
  const output = program.output();
  holds('cli/dev.txt', steadier(folder)(output).replaceAll(folder.replaceAll("'", "'\\''"), '/FOLDER'));
  const lines = output
    .slice(output.indexOf('To try it'), output.indexOf('Ctrl-C ends it'))
    .split('\n')
    .filter((line) => line.startsWith('  '));
  const shell = spawn('sh', ['-s'], {
    stdio: ['pipe', 'pipe', 'pipe'],
    cwd: '/',
    env: { PATH: process.env.PATH, https_proxy: 'http://127.0.0.1:9' },
  });
  let said = '';
  for (const stream of [shell.stdout, shell.stderr])
    stream.on('data', (chunk) => {
      said += chunk;
    });
  shell.stdin.end(lines.join('\n'));
  await once(shell, 'close');
  const answers = said
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line));
  assert.deepEqual(
    answers.map(({ logged_in_as, msg, token_type }) => logged_in_as ?? msg ?? token_type),
    ['Bearer', 'testuser', 'Bearer', 'Successfully logged out', 'Token has been revoked'],
  );
  assert.equal(await program.stop('SIGINT'), 0);
  assert.match(program.output(), /Ended\.\n$/);
});

test('serve starts beside what its operator prepared, and says what it is', async (t) => {
  const folder = folderFor(t);
  const demo = await startProgram(t, { folder: join(folder, 'demo') });
  await demo.stop();
  const own = [
    'req',
    '-x509',
    '-newkey',
    'ec',
    '-pkeyopt',
    'ec_paramgen_curve:P-256',
    '-nodes',
    '-days',
    '60',
    '-subj',
    '/CN=localhost',
    '-addext',
    'subjectAltName=DNS:localhost',
    '-keyout',
    'key.pem',
    '-out',
    'cert.pem',
  ];
  assert.equal(spawnSync('openssl', own, { cwd: folder }).status, 0);
  const data = join(folder, 'data');
  const settings = {
    DATA_DIR: data,
    ISSUER: 'https://api.example.com',
    MASTER_SECRET: 'q3ZkT0v9yX7uB1nLw5cRj8sHd2fGm6aE4pKi',
    TLS_CERT_FILE: join(folder, 'cert.pem'),
    TLS_KEY_FILE: join(folder, 'key.pem'),
    HOST: '127.0.0.1',
  };
  assert.equal((await at(folder, { PORTCULLIS_DATA_DIR: data })(['users', 'add', 'anna', '--password-stdin'], `${PASSWORD}\n`)).code, 0);
  const ca = readFileSync(join(folder, 'cert.pem'), 'utf8');
  const program = await startProgram(t, { command: 'serve', folder, settings, ca });
  await logIn(program, { username: 'anna', password: PASSWORD });
  await eventually(async () => program.output().includes('security log'), 'it says all');
  holds('cli/serve.txt', steadier(folder)(program.output()).replace(/127\.0\.0\.1:\d+/, '127.0.0.1:PORT'));

  const env = Object.fromEntries(
    Object.entries({ ...settings, PORT: '0', ADMIN_LISTEN: 'none' }).map(([name, value]) => [`PORTCULLIS_${name}`, value]),
  );
  const serve = (more: Record<string, string>) => here(['serve'], { ...env, ...more });
  refused(
    await runCommand(['serve'], { env }),
    2,
    /^Cannot start: another server has the store .*: stop that one, or .*PORTCULLIS_DATA_DIR.*\n$/,
  );
  assert.equal(await program.stop(), 0);

  const taken = createServer().listen(0, '127.0.0.1');
  await once(taken, 'listening');
  const address = taken.address();
  const port = String(typeof address === 'object' ? address?.port : 0);
  writeFileSync(join(folder, 'letter'), 'no certificate');
  writeFileSync(join(folder, 'half.pem'), `${ca}-----BEGIN CERTIFICATE-----\nhalf\n-----END CERTIFICATE-----\n`);
  for (const [more, line] of [
    [{ PORTCULLIS_PORT: port }, /^Cannot start: port \d+ on 127\.0\.0\.1 is taken by another process.* PORTCULLIS_PORT\n$/],
    [
      { PORTCULLIS_ADMIN_LISTEN: `127.0.0.1:${port}` },
      /^Cannot start: port \d+ on 127\.0\.0\.1 is taken by another process.* PORTCULLIS_ADMIN_LISTEN\n$/,
    ],
    [
      { PORTCULLIS_ADMIN_LISTEN: '192.0.2.1:5001' },
      /^Cannot start: 192\.0\.2\.1 is no address of this machine: set another PORTCULLIS_ADMIN_LISTEN\n$/,
    ],
    [
      { PORTCULLIS_LOG_FILE: join(folder, 'no/such.log') },
      /^Cannot start: PORTCULLIS_LOG_FILE: .*no\/such\.log: its folder is not there\n$/,
    ],
    [
      { PORTCULLIS_TLS_CERT_FILE: join(folder, 'gone.pem') },
      /^Cannot start: PORTCULLIS_TLS_CERT_FILE ".*gone\.pem": there is no such file\n$/,
    ],
    [
      { PORTCULLIS_TLS_CERT_FILE: folder, PORTCULLIS_TLS_KEY_FILE: join(folder, 'letter'), PORTCULLIS_PORT: 'x' },
      /^Cannot start: PORTCULLIS_PORT .*\nCannot start: PORTCULLIS_TLS_CERT_FILE ".*": this is a folder, not a file\nCannot start: PORTCULLIS_TLS_KEY_FILE ".*letter": the file is not a private key as PEM.*\n$/,
    ],
    [
      { PORTCULLIS_TLS_CERT_FILE: join(folder, 'letter') },
      /^Cannot start: PORTCULLIS_TLS_CERT_FILE ".*letter": the file is not a certificate as PEM\n$/,
    ],
    [
      { PORTCULLIS_TLS_CERT_FILE: join(folder, 'half.pem') },
      /^Cannot start: PORTCULLIS_TLS_CERT_FILE ".*half.pem": TLS cannot use it: each certificate of the file must be whole.*\n$/,
    ],
    [
      { PORTCULLIS_TLS_CERT_FILE: join(folder, 'demo/cert.pem') },
      /^Cannot start: PORTCULLIS_TLS_KEY_FILE ".*key\.pem": this key does not belong to the certificate in ".*demo\/cert\.pem"\nCannot start: PORTCULLIS_TLS_CERT_FILE: this is the demo's certificate.*\n$/,
    ],
    [{ PORTCULLIS_DATA_DIR: join(folder, 'letter/data') }, /^Cannot start: .*letter\/data is not what it should be \(ENOTDIR\)\n$/],
    [{ PORTCULLIS_PORT: 'http', PORTCULLIS_ISSUER: '' }, /^Cannot start: PORTCULLIS_PORT .*\nCannot start: PORTCULLIS_ISSUER .*\n$/],
    [
      { PORTCULLIS_MASTER_SECRET: 'another-secret-that-is-long-enough-0123456789' },
      /^Cannot start: PORTCULLIS_MASTER_SECRET \(environment\): the master secret does not open the key.*\n$/,
    ],
  ] as const)
    refused(await serve(more), 2, line);
  taken.close();
  const again = await startProgram(t, { command: 'serve', folder, settings, ca });
  assert.equal(await again.stop(), 0, 'nothing of them was left behind');
  assert.doesNotMatch(again.output(), /users/);

  const empty = await startProgram(t, { command: 'serve', folder, settings: { ...settings, DATA_DIR: join(folder, 'empty') }, ca });
  await eventually(async () => empty.output().includes('security log'), 'it says all');
  assert.match(empty.output(), /^ +users +none yet: "portcullis users add NAME" adds one$/m);
  assert.equal(await empty.stop(), 0);
});

test('dev on any free port knows which: in its tokens and in the OpenAPI document', async (t) => {
  const program = await startProgram(t, { settings: wideLimits });
  const { access } = await logIn(program);
  const claims = JSON.parse(Buffer.from(access.split('.')[1] ?? '', 'base64url').toString());
  const here = `https://localhost:${program.port}`;
  assert.equal(claims.iss, here);
  assert.deepEqual(
    (await program.ask('GET', '/openapi.json')).json.servers.map(({ url }: { url: string }) => url),
    [here],
  );
});

test("dev with another's master secret says which setting that is, and changes nothing", async (t) => {
  const program = await startProgram(t);
  await program.stop();
  const before = readFileSync(join(program.folder, 'master-secret'), 'utf8');
  const env = { PORTCULLIS_DATA_DIR: program.folder, PORTCULLIS_PORT: '0' };
  const secret = 'q3ZkT0v9yX7uB1nLw5cRj8sHd2fGm6aE4pKi';
  const why = /PORTCULLIS_MASTER_SECRET \(environment\): the master secret does not open the key .*; leave it out, and dev uses its own\n$/;
  refused(await here(['dev'], { ...env, PORTCULLIS_MASTER_SECRET: secret }), 2, why);
  writeFileSync(join(program.folder, 'other'), secret);
  const inFile = await here(['dev'], { ...env, PORTCULLIS_MASTER_SECRET_FILE: join(program.folder, 'other') });
  refused(inFile, 2, /PORTCULLIS_MASTER_SECRET_FILE \(environment\): the master secret does not open/);
  assert.equal(readFileSync(join(program.folder, 'master-secret'), 'utf8'), before);
});

test('a signal ends it in order; npm sends it twice; a second one later ends it at once', async (t) => {
  const settings = { SHUTDOWN_DELAY: '1 s' };
  const program = await startProgram(t, { settings });
  process.kill(program.pid, 'SIGINT');
  process.kill(program.pid, 'SIGTERM');
  assert.equal(await program.stop(), 0);

  const slow = await startProgram(t, { settings: { SHUTDOWN_DELAY: '10 minutes' } });
  process.kill(slow.pid, 'SIGTERM');
  await sleep(600);
  assert.equal((await slow.ask('GET', '/readyz')).status, 503, 'it is on its way out');
  assert.equal(await slow.stop('SIGTERM'), 1);
});

for (const [fault, code] of [
  ['an exception', 'throw new Error("boom")'],
  ['a rejection', 'Promise.reject(new Error("boom"))'],
] as const) {
  test(`${fault} that nobody caught ends the server with 1, written down, with what the security log still held`, async (t) => {
    const folder = folderFor(t);
    const preload = `data:text/javascript,${encodeURIComponent(`process.on("SIGUSR2", () => { ${code} })`)}`;
    const server = start(t, ['dev'], folder, { PORTCULLIS_PORT: '0', NODE_OPTIONS: `--import=${preload}` });
    await eventually(async () => server.output().includes('Ctrl-C ends it'), 'it starts');
    const port = Number(/localhost:(\d+)/.exec(server.output())?.[1]);
    const ask = () => fetchStatus(port, readFileSync(join(folder, 'ca.pem'), 'utf8'));
    for (let i = 0; i < 4; i++) assert.equal(await ask(), 401);
    assert.equal(await server.stop('SIGUSR2'), 1);
    assert.match(server.output(), /"level":"fatal".*boom.*"msg":"a fault: the process ends"/);
    const log = readFileSync(join(folder, 'security.log'), 'utf8')
      .trim()
      .split('\n')
      .map((line) => JSON.parse(line));
    assert.deepEqual(
      log.filter(({ act }) => act === 'refused').map(({ code: of, count }) => [of, count]),
      [
        ['token_missing', undefined],
        ['token_missing', 3],
      ],
    );
  });
}

// --- On a terminal ---

const hasScript = spawnSync('script', ['--version']).status === 0;

test('passwords are asked for on a terminal, twice and unseen', { skip: without('script', hasScript) }, async (t) => {
  const folder = folderFor(t);
  const typed = 'correct horse bättery staple';
  const good = await onTerminal(t, ['users', 'add', 'änna', '--dev'], folder, [
    ['New password for "änna": ', `x\u007f${typed}zz\u007f\u007f\r`],
    ['The same again: ', `${typed}\r`],
  ]);
  assert.equal(good.code, 0, good.seen);
  assert.doesNotMatch(good.seen, /horse|staple/);
  assert.match(good.seen, /Added "änna"/);

  const program = await startProgram(t, { folder });
  await logIn(program, { username: 'änna', password: typed });

  const pasted = await onTerminal(t, ['users', 'set-password', 'änna', '--dev'], folder, [['New password', `${PASSWORD}\r${PASSWORD}\r`]]);
  assert.equal(pasted.code, 0, pasted.seen);
  for (const [answers, said] of [
    [[['New password', 'correct hor\u0003']], /Cancelled:.* nothing was changed/],
    [[['New password', '\u0004']], /Cancelled:.* nothing was changed/],
    [
      [
        ['New password', `${PASSWORD}\r`],
        ['again', `${PASSWORD}.\r`],
      ],
      /Cancelled:.* the two passwords differ/,
    ],
  ] as const) {
    const ran = await onTerminal(t, ['users', 'set-password', 'änna', '--dev'], folder, answers);
    assert.equal(ran.code, 1, ran.seen);
    assert.match(ran.seen, said);
  }
  for (const answer of ['n\r', '\u0003'])
    assert.equal((await onTerminal(t, ['users', 'remove', 'änna', '--dev'], folder, [['[y/N]', answer]])).code, 1);
  await logIn(program, { username: 'änna', password: PASSWORD });
  assert.equal((await onTerminal(t, ['users', 'remove', 'änna', '--dev'], folder, [['[y/N]', 'y\r']])).code, 0);
  assert.equal((await program.ask('POST', '/login', { json: { username: 'änna', password: PASSWORD } })).status, 401);
});

test('colours are for terminals, and not where NO_COLOR is set', { skip: without('script', hasScript) }, async (t) => {
  const folder = folderFor(t);
  await at(folder)(['users', 'add', 'anna', '--password-stdin'], `${PASSWORD}\n`);
  assert.match((await onTerminal(t, ['users', 'list'], folder, [])).seen, /\u001b\[32menabled\u001b/);
  assert.doesNotMatch((await onTerminal(t, ['users', 'list'], folder, [], { NO_COLOR: '1' })).seen, /\u001b/);
  assert.doesNotMatch((await at(folder, { FORCE_COLOR: '1' })(['users', 'list'])).stdout, /\u001b/);
});

// --- The printer and the pages ---

test('columns are as wide as a terminal shows them, and are cut where it is too narrow', () => {
  for (const [text, width] of [
    ['', 0],
    ['anna', 4],
    ['änna', 4],
    ['a\u0308nna', 4],
    ['多語', 4],
    ['😀', 2],
    ['👩‍👩‍👧', 2],
    ['한글', 4],
    ['ｗｉｄｅ', 8],
    ['…', 1],
  ] as const)
    assert.equal(widthOf(text), width, text);
  assert.equal(cutTo('多語多語', 5), '多語…');
  assert.equal(cutTo('多語多語', 4), '多…');
  assert.equal(cutTo('anna', 4), 'anna');

  const voice = (width?: number): Voice => ({
    line() {},
    write() {},
    paint: (_, text) => text,
    isTty: width !== undefined,
    hasColour: false,
    width,
  });
  type Shown = { name: string; agent: string | undefined; at: number };
  const columns: readonly Column<Shown>[] = [{ key: 'name' }, { key: 'agent', cut: true }, { key: 'at', as: 'ago' }];
  const items = [
    { name: '多語', agent: 'a browser of some length', at: 0 },
    { name: 'anna', agent: undefined, at: 7_200_000 },
  ];
  assert.deepEqual(table(items, columns, voice(), 3_600_000), [
    'name  agent                     at',
    '多語  a browser of some length  1 h ago',
    'anna  -                         in 1 h',
  ]);
  assert.deepEqual(table(items, columns, voice(32), 3_600_000), [
    'name  agent              at',
    '多語  a browser of som…  1 h ago',
    'anna  -                  in 1 h',
  ]);
  assert.match(localTime(0), /^19(69|70)-\d\d-\d\d \d\d:\d\d:\d\d$/);
});

test('every table fits a terminal of 80 columns, with what matters most whole', async (t) => {
  const program = await startProgram(t, { settings: wideLimits });
  await logIn(program);
  await program.ask('POST', '/login', { json: { username: 'a name of some length, of nobody', password: 'x' } });
  const kid = jsonOf(await at(program.folder)(['keys', 'rotate', '--dev', '--json'])).kid;
  const onNarrow = async (...args: string[]): Promise<string> => {
    let seen = '';
    const stdout = { isTTY: true, columns: 80, write: (text: string) => (seen += text) };
    const env = { PORTCULLIS_DATA_DIR: program.folder, NO_COLOR: '1' };
    assert.equal(await runHere({ argv: args, env, stdout, stderr: { write: () => {} } }), 0);
    for (const line of seen.split('\n')) assert.ok(widthOf(line) <= 80, `${args.join(' ')}: ${line}`);
    return seen;
  };
  assert.match(await onNarrow('audit', 'list'), /login_failed +a name.* +127\.0\.0\.1 +unknown user\n/);
  assert.ok((await onNarrow('keys', 'list')).includes(kid));
  assert.match(await onNarrow('users', 'list'), /testuser +usr_\w{32} +enabled, demo\n/);
  assert.match(await onNarrow('sessions', 'list'), /ses_\w{32} +testuser +just now +127\.0\.0\.1\n/);
  assert.match(await onNarrow('routes'), /POST +\/login +open +3 per minute by ip\n/);
});

test('routes: a gate that is changed shows here', async (t) => {
  const folder = folderFor(t);
  const { code, stdout, stderr } = await at(folder)(['routes']);
  assert.deepEqual([code, stderr], [0, '']);
  holds('routes.txt', stdout);
  assert.deepEqual(readdirSync(folder), [], 'nothing is opened');
});

test('config shows every setting with its origin, secrets only as set; and every mistake', async (t) => {
  const folder = folderFor(t);
  const secret = 'q3ZkT0v9yX7uB1nLw5cRj8sHd2fGm6aE4pKi';
  const run = at(folder, {
    PORTCULLIS_MASTER_SECRET: secret,
    PORTCULLIS_ISSUER: 'https://api.example.com',
    PORTCULLIS_TLS_AT_PROXY: 'true',
    PORTCULLIS_TRUSTED_PROXIES: '10.0.0.0/8',
  });
  const shown = jsonOf(await run(['config', '--port', '6000', '--json']));
  const of = (name: string) => shown.find((row: { name: string }) => row.name === `PORTCULLIS_${name}`);
  assert.deepEqual(
    [of('PORT'), of('MASTER_SECRET'), of('TLS_CERT_FILE')],
    [
      { name: 'PORTCULLIS_PORT', value: '6000', origin: 'flag' },
      { name: 'PORTCULLIS_MASTER_SECRET', value: 'set', origin: 'environment' },
      { name: 'PORTCULLIS_TLS_CERT_FILE', value: 'not set', origin: null },
    ],
  );
  assert.ok(!JSON.stringify(shown).includes(secret));
  assert.match((await run(['config', '--dev'])).stdout, /^PORTCULLIS_CORS_ORIGINS +https:\/\/your-frontend\.com +dev$/m);
  assert.match(
    (await here(['config', '--dev'])).stdout,
    /^PORTCULLIS_ISSUER +made by dev +dev\nPORTCULLIS_AUDIENCE[^]*^PORTCULLIS_MASTER_SECRET +made by dev +dev$/m,
  );
  const wrong = await run(['config', '--port', 'x', '--host', 'y', `--master-secret=${secret}`]);
  refused(wrong, 2, /PORTCULLIS_PORT .*\n.*PORTCULLIS_HOST .*\n|PORTCULLIS_HOST .*\n.*PORTCULLIS_PORT .*\n/);
  assert.equal(wrong.stderr.trim().split('\n').length, 3);
  assert.ok(!wrong.stderr.includes(secret));
  refused(
    await run(['config', '--tls-at-proxy', 'false', '--tls-cert-file', 'gone.pem', '--tls-key-file', 'gone.key']),
    2,
    /^Cannot start: PORTCULLIS_TLS_CERT_FILE "gone\.pem": there is no such file\nCannot start: PORTCULLIS_TLS_KEY_FILE .*\n$/,
  );
});

test('the reference names every command with its examples', () => {
  const page = commandsReference();
  for (const { name, examples } of commands) {
    assert.ok(page.includes(`\n## ${name}\n`), name);
    for (const [line] of examples) assert.ok(page.includes(`portcullis ${line}`));
  }
});

type Started = { output(): string; stop(signal: NodeJS.Signals): Promise<number | string> };

/** A command that goes on until it is ended. */
function start(t: TestContext, args: readonly string[], folder: string, env: Record<string, string> = {}): Started {
  const child = spawn(process.execPath, [main, ...args], {
    env: { ...ENV, PORTCULLIS_DATA_DIR: folder, ...env },
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  let output = '';
  for (const stream of [child.stdout, child.stderr])
    stream.on('data', (chunk) => {
      output += chunk;
    });
  const ended = once(child, 'close').then(([code, signal]) => (code ?? signal) as number | string); // what 'close' gives
  t.after(() => {
    child.kill('SIGKILL');
  });
  return {
    output: () => output,
    stop: (signal) => {
      child.kill(signal);
      return ended;
    },
  };
}

/** Runs a command on a terminal of its own, and types each answer when its prompt is seen. */
async function onTerminal(
  t: TestContext,
  args: readonly string[],
  folder: string,
  answers: readonly (readonly [prompt: string, answer: string])[],
  env: Record<string, string> = {},
): Promise<{ code: number; seen: string }> {
  const line = [process.execPath, main, ...args].map((word) => `'${word}'`).join(' ');
  const child = spawn('script', ['-qec', line, '/dev/null'], {
    env: { ...ENV, TERM: 'xterm', PORTCULLIS_DATA_DIR: folder, ...env },
    stdio: ['pipe', 'pipe', 'pipe'],
  });
  t.after(() => {
    child.kill('SIGKILL');
  });
  const left = [...answers];
  let seen = '';
  child.stdout.on('data', (chunk) => {
    seen += chunk;
    const [next] = left;
    if (!next || !seen.includes(next[0])) return;
    left.shift();
    child.stdin.write(next[1]);
  });
  const [code] = await once(child, 'close');
  return { code, seen };
}

async function fetchStatus(port: number, ca: string): Promise<number> {
  const { request } = await import('node:https');
  return new Promise((resolve, reject) => {
    request(
      { host: '127.0.0.1', servername: 'localhost', port, path: '/protected', ca, agent: false, headers: { host: `localhost:${port}` } },
      (answer) => {
        answer.resume().on('end', () => {
          resolve(answer.statusCode ?? 0);
        });
      },
    )
      .on('error', reject)
      .end();
  });
}
