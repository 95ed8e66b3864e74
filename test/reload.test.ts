import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { existsSync, mkdirSync, readFileSync, renameSync } from 'node:fs';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { without } from './support/needs.ts';
import { folderFor, logIn, startProgram, until, wideLimits } from './support/program.ts';

const main = fileURLToPath(new URL('../packages/server/bin/portcullis.mjs', import.meta.url));

test('SIGHUP under load opens the renamed log anew: no line is lost, each is whole', { timeout: 60_000 }, async (t) => {
  const program = await startProgram(t, { settings: { ...wideLimits, SESSIONS_PER_USER: '10000' } });
  const log = `${program.folder}/security.log`;
  const end = new AbortController();
  let logins = 0;
  const load = Array.from({ length: 4 }, async () => {
    for (; !end.signal.aborted; logins += 1) await logIn(program);
  });
  for (let turn = 1; turn <= 3; turn += 1) {
    const before = logins;
    await until(() => logins > before + 10);
    renameSync(log, `${log}.${turn}`);
    process.kill(program.pid, 'SIGHUP');
    await until(() => existsSync(log) && readFileSync(log, 'utf8') !== '');
  }
  end.abort();
  await Promise.all(load);
  assert.equal(await program.stop(), 0);

  const files = [log, `${log}.1`, `${log}.2`, `${log}.3`].map((file) => readFileSync(file, 'utf8'));
  const lines = files.flatMap((text) => {
    assert.match(text, /\n$/);
    return text
      .trim()
      .split('\n')
      .map((line) => JSON.parse(line));
  });
  assert.equal(lines.filter(({ act }) => act === 'login').length, logins);
  assert.ok(
    files.every((text) => text.includes('"act":"login"')),
    'each file has its part',
  );
  assert.equal(program.output().match(/"securityLog":"reopened","certificate":"unchanged","msg":"reloaded"/g)?.length, 3);
});

test('a log that cannot be opened anew goes on in the old file, and SIGHUP ends nothing', async (t) => {
  const program = await startProgram(t, { settings: wideLimits });
  const log = `${program.folder}/security.log`;
  renameSync(log, `${log}.1`);
  mkdirSync(log);
  process.kill(program.pid, 'SIGHUP');
  await until(() =>
    /"level":"warn",.*"securityLog":"not reopened","certificate":"unchanged","why":\[".*security\.log .*"\],"msg":"not all was reloaded/.test(
      program.output(),
    ),
  );
  await logIn(program);
  await until(() => readFileSync(`${log}.1`, 'utf8').includes('"act":"login"'));
  assert.equal(await program.stop(), 0);
});

test(
  'SIGHUP ends what a terminal started: there it means that the terminal is gone',
  { skip: without('script', existsSync('/usr/bin/script')) },
  async (t) => {
    const folder = folderFor(t);
    const child = spawn('script', ['-qefc', `exec '${process.execPath}' '${main}' dev`, '/dev/null'], {
      env: { PATH: process.env.PATH, PORTCULLIS_PORT: '0', PORTCULLIS_DATA_DIR: folder },
      stdio: ['pipe', 'pipe', 'ignore'],
    });
    t.after(() => child.kill('SIGKILL'));
    const ended = new Promise<void>((resolve) => child.once('exit', () => resolve()));
    let output = '';
    child.stdout.on('data', (text) => {
      output += text;
    });
    await until(() => output.includes('Ctrl-C ends it'));
    const lock = readFileSync(`/proc/${child.pid}/task/${child.pid}/children`, 'utf8').trim();
    process.kill(Number(lock), 'SIGHUP');
    await ended;
    assert.match(output, /Ended\./);
  },
);
