import { createInterface } from 'node:readline';
import { Writable } from 'node:stream';
import { Cancelled, WrongUsage, type On } from './command.ts';

/** More than any password and its line end; what is longer is no line. */
const LONGEST_LINE = 65_536;

/**
 * A new password: typed twice on a terminal, without an echo, or the first line of the standard input.
 * @throws {WrongUsage} where neither is possible, @throws {Cancelled} on Ctrl-C and Ctrl-D.
 */
export async function newPassword({ terminal }: Pick<On, 'terminal'>, given: { readonly passwordStdin: boolean }, username: string): Promise<string> {
  if (given.passwordStdin) return firstLine(process.stdin);
  if (!process.stdin.isTTY || !terminal.err.isTty) throw new WrongUsage('there is no terminal to ask for the password: give it as the first line of the standard input, with --password-stdin');
  using hidden = hiddenLines(terminal);
  const first = await hidden.ask(`New password for ${username}: `);
  const second = await hidden.ask('The same again: ');
  if (first !== second) throw new Cancelled('the two passwords differ');
  return first;
}

/** @throws {WrongUsage} where there is nobody to ask, @throws {Cancelled} unless the answer is yes. */
export async function confirm({ terminal }: Pick<On, 'terminal'>, question: string): Promise<void> {
  if (!process.stdin.isTTY || !terminal.err.isTty) throw new WrongUsage('there is no terminal to ask for confirmation: say --yes');
  using lines = createInterface({ input: process.stdin, output: process.stderr, terminal: true, historySize: 0 });
  const { promise, resolve } = Promise.withResolvers<string>();
  lines.on('SIGINT', () => { terminal.err.line(); lines.close(); }).on('close', () => { resolve(''); });
  lines.question(`${question} [y/N] `, resolve);
  if (!/^y(es)?$/i.test((await promise).trim())) throw new Cancelled('not confirmed');
}

/** Reads lines as a terminal edits them (backspace, Ctrl-U, arrows), but shows nothing of them and remembers none. */
function hiddenLines({ err }: On['terminal']): Disposable & { ask(prompt: string): Promise<string> } {
  const nowhere = new Writable({ write: (_chunk, _encoding, done) => { done(); } });
  const lines = createInterface({ input: process.stdin, output: nowhere, terminal: true, historySize: 0 });
  const typed = lines[Symbol.asyncIterator](); // keeps a line that comes before it is asked for
  return {
    async ask(prompt) {
      err.write(prompt);
      const { value, done } = await typed.next();
      err.line();
      if (done) throw new Cancelled();
      return value;
    },
    [Symbol.dispose]: () => { lines.close(); },
  };
}

/** Without its line end, and otherwise as it is. */
async function firstLine(input: AsyncIterable<Uint8Array | string>): Promise<string> {
  const chunks: Uint8Array[] = [];
  let size = 0;
  for await (const chunk of input) {
    const bytes = Buffer.from(chunk);
    chunks.push(bytes);
    size += bytes.length;
    if (bytes.includes(0x0a) || size > LONGEST_LINE) break;
  }
  const all = Buffer.concat(chunks);
  const end = all.indexOf(0x0a);
  try {
    return new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(end < 0 ? all : all.subarray(0, end)).replace(/\r$/, '');
  } catch {
    throw new WrongUsage('the password on the standard input is not UTF-8');
  }
}
