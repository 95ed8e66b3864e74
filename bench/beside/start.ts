import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as wait } from 'node:timers/promises';
import { connect } from 'node:tls';
import { fileURLToPath } from 'node:url';
import { certificate } from '../../test/wire/support.ts';
import { freePort } from '../../test/support/free-port.ts';
import { type Ending, folderFor, startProgram, undoAfter } from '../../test/support/program.ts';
import type { BesideLine } from '../beside-line.ts';
import { cpuUs } from '../cpu.ts';
import { servedSettings } from '../scale/house.ts';
import { requestOf } from './send.ts';
import { spread, times } from './spread.ts';

const ROUNDS = 7;
const BAR_MS = 500;
const portcullis = fileURLToPath(new URL('../../packages/server/bin/portcullis.mjs', import.meta.url));

/** From the start of the process to its first 200 over HTTPS; the data folder and what Node has compiled are there. */
export async function startLines(until: Ending, tell: (text: string) => void): Promise<BesideLine[]> {
  const ways = [
    { name: 'bare node:https', start: bareStart(until) },
    { name: 'portcullis dev', start: await devStart(until) },
    { name: 'portcullis serve', start: serveStart(until) },
  ].map((way) => ({ ...way, took: [] as number[], cpu: [] as number[] }));
  for (const { start } of ways) await times(2, () => firstAnswer(until, start)); // what Node compiles is kept at the end of a process
  tell('starts');
  for (let round = 0; round < ROUNDS; round++) {
    for (const { start, took, cpu } of ways) {
      const first = await firstAnswer(until, start);
      took.push(first.ms);
      cpu.push(first.cpuMs);
    }
  }
  return ways.flatMap(({ name, took, cpu }, i) => [
    spread(`start to first answer: ${name}`, 'ms', took, i > 0 ? { bar: BAR_MS } : {}),
    spread(`CPU time to first answer: ${name}`, 'ms', cpu),
  ]);
}

type Start = (port: number) => ChildProcess;

async function firstAnswer(until: Ending, start: Start): Promise<{ ms: number; cpuMs: number }> {
  const port = await freePort();
  const began = performance.now();
  const child = start(port);
  undoAfter(until, () => void child.kill('SIGKILL'));
  while (!(await isAnswered(port))) {
    if (child.exitCode !== null || performance.now() > began + 30_000) throw new Error('it does not start');
    await wait(2);
  }
  const first = { ms: performance.now() - began, cpuMs: cpuUs(child.pid!) / 1_000 };
  child.kill();
  await once(child, 'exit');
  return first;
}

function isAnswered(port: number): Promise<boolean> {
  const socket = connect({ host: '127.0.0.1', port, servername: 'localhost', rejectUnauthorized: false }); // whoever answers is ours
  return new Promise((resolve) => {
    socket.once('secureConnect', () => socket.write(requestOf('GET', '/healthz')));
    socket.once('data', (bytes: Buffer) => {
      resolve(bytes.toString('latin1', 9, 12) === '200');
      socket.destroy();
    });
    socket.once('error', () => resolve(false));
    socket.once('close', () => resolve(false));
  });
}

const named = (settings: Record<string, string>) =>
  Object.fromEntries(Object.entries(settings).map(([name, value]) => [`PORTCULLIS_${name}`, value]));

const run = (args: readonly string[], settings: Record<string, string>): ChildProcess =>
  spawn(process.execPath, args, { stdio: 'ignore', env: { PATH: process.env.PATH, HOME: process.env.HOME, ...named(settings) } });

/** Of a folder that a demo has made. */
async function devStart(until: Ending): Promise<Start> {
  const folder = folderFor(until);
  await (await startProgram(until, { folder })).stop();
  return (port) => run([portcullis, 'dev'], { PORT: String(port), DATA_DIR: folder, ADMIN_LISTEN: 'none' });
}

function serveStart(until: Ending): Start {
  const folder = folderFor(until);
  const { TLS_AT_PROXY: _, TRUSTED_PROXIES: __, ...settings } = servedSettings;
  const tls = { TLS_CERT_FILE: join(folder, 'cert.pem'), TLS_KEY_FILE: join(folder, 'key.pem') };
  writeFileSync(tls.TLS_CERT_FILE, certificate.cert);
  writeFileSync(tls.TLS_KEY_FILE, certificate.key);
  const data = join(folder, 'data');
  return (port) => run([portcullis, 'serve'], { ...settings, ...tls, PORT: String(port), DATA_DIR: data, ADMIN_LISTEN: 'none' });
}

/** The least that could answer. */
function bareStart(until: Ending): Start {
  const file = join(folderFor(until), 'bare.mjs');
  const tls = JSON.stringify(certificate);
  writeFileSync(
    file,
    `import { createServer } from 'node:https'; createServer(${tls}, (_, answer) => answer.end('{}')).listen(Number(process.argv[2]), '127.0.0.1');`,
  );
  return (port) => run([file, String(port)], {});
}
