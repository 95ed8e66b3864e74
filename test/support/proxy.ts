import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync, writeFileSync } from 'node:fs';
import net from 'node:net';
import { join } from 'node:path';
import { setTimeout as wait } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { holdFreePort } from '../../packages/server/src/lib/free-port.ts';
import { certificate } from '../wire/support.ts';
import { type Ending, folderFor, undoAfter } from './program.ts';

/** The configurations that a page of the docs shows for this proxy, in their order. */
export const configsOf = (page: string, kind: 'nginx' | 'haproxy'): string[] =>
  [
    ...readFileSync(fileURLToPath(new URL(`../../${page}`, import.meta.url)), 'utf8').matchAll(
      new RegExp(`\`\`\`${kind}\\n([^]*?)\`\`\``, 'g'),
    ),
  ].map(([, config = '']) => config);

/**
 * Starts nginx or HAProxy for real with a configuration of the docs, whose names and ports are put right: it listens on a free port of
 * loopback with a certificate for localhost, and passes on to the port `to`, or to two, the second of which the page calls 10.0.0.6. It ends with the test.
 */
export async function startProxy(
  t: Ending,
  kind: 'nginx' | 'haproxy',
  { config, to }: { config: string; to: number | readonly [number, number] },
): Promise<{ port: number; ca: string }> {
  const folder = folderFor(t);
  const at = (name: string): string => join(folder, name);
  writeFileSync(at('cert.pem'), certificate.cert);
  writeFileSync(at('key.pem'), certificate.key);
  writeFileSync(at('both.pem'), `${certificate.cert}\n${certificate.key}`);
  writeFileSync(at('ca.pem'), certificate.cert);
  const [first, second] = [to].flat();
  const free = await holdFreePort('127.0.0.1');
  const fitted = config
    .replaceAll('/etc/ssl/api.example.com', folder)
    .replaceAll('10.0.0.5:5000', `127.0.0.1:${first}`)
    .replaceAll('10.0.0.6:5000', `127.0.0.1:${second}`)
    .replaceAll(/(listen |bind ).*?443/g, `$1127.0.0.1:${free.port}`);
  writeFileSync(at('conf'), around[kind](fitted, folder));
  await free.release();

  const [program, args] =
    kind === 'nginx' ? ['nginx', ['-p', folder, '-e', 'stderr', '-c', at('conf')]] : ['haproxy', ['-db', '-f', at('conf')]];
  const child = spawn(`/usr/sbin/${program}`, args, { stdio: ['ignore', 'pipe', 'pipe'] });
  let said = '';
  for (const stream of [child.stdout, child.stderr])
    stream.on('data', (text) => {
      said += text;
    });
  const ended = once(child, 'close');
  undoAfter(t, async () => {
    child.kill('SIGKILL');
    await ended;
  });
  while (!(await isListening(free.port))) {
    if (child.exitCode !== null) throw new Error(`${program} ended with ${child.exitCode}:\n${said}`);
    await wait(20);
  }
  return { port: free.port, ca: certificate.cert };
}

/** What a page leaves out: one process in the foreground, with its files in the folder. */
const around = {
  nginx: (config: string, folder: string): string => `daemon off; master_process off; pid ${folder}/pid; error_log stderr;
events { worker_connections 200; }
http {
  access_log off;
  ${['client_body', 'proxy', 'fastcgi', 'uwsgi', 'scgi'].map((what) => `${what}_temp_path ${folder}/${what};`).join(' ')}
${config}
}
`,
  haproxy: (config: string): string => `global
  maxconn 200
defaults
  timeout connect 5s
  timeout client 30s
  timeout server 30s
${config}
`,
};

async function isListening(port: number): Promise<boolean> {
  const socket = net.connect(port, '127.0.0.1');
  const answer = await new Promise<boolean>((resolve) => socket.once('connect', () => resolve(true)).once('error', () => resolve(false)));
  socket.destroy();
  return answer;
}
