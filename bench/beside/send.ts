import { fork } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import { type Ending, type Program, undoAfter } from '../../test/support/program.ts';
import type { Order, Sent } from './sender.ts';

export type Send = (order: Order) => Promise<Sent>;

/** A process that sends, so that who waits for answers is not who is busy with something else. */
export function startSender(until: Ending): Send {
  const child = fork(join(import.meta.dirname, 'sender.ts'));
  undoAfter(until, async () => {
    if (child.exitCode !== null || child.signalCode !== null) return;
    child.kill();
    await once(child, 'exit');
  });
  return async (order) => {
    child.send(order);
    const [sent] = (await once(child, 'message')) as [Sent]; // which is all that it says
    return sent;
  };
}

/** The text of a request, without a body unless there is one. */
export function requestOf(method: string, path: string, headers: Readonly<Record<string, string>> = {}, body = ''): string {
  const about = { host: 'localhost', accept: 'application/json', 'user-agent': 'bench', ...headers };
  const all = method === 'GET' ? about : { ...about, 'content-length': String(Buffer.byteLength(body)) };
  const lines = Object.entries(all).map(([name, value]) => `${name}: ${value}\r\n`);
  return `${method} ${path} HTTP/1.1\r\n${lines.join('')}\r\n${body}`;
}

export const to = ({ port, ca }: Pick<Program, 'port' | 'ca'>) => ({ port, ca });
