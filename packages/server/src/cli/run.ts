import { type ProblemRow, systemClock } from '@portcullis/guard';
import type { Desk } from '../desk.ts';
import { plainText } from '../domain/audit/audit.ts';
import { Problem, problems } from '../domain/problem.ts';
import { readText } from '../lib/files.ts';
import { version } from '../lib/version.ts';
import { Mistake, mistakesOf } from '../mistake.ts';
import { readSettings, type Sources } from '../settings/read.ts';
import type { Settings } from '../settings/table.ts';
import { Cancelled, type Command, type On, WrongUsage } from './command.ts';
import type { OpenStore } from './open-store.ts';
import { type Item, json, record, table } from './print.ts';
import { parse, type Parsed } from './program.ts';
import { type Terminal, terminal as terminalOf } from './terminal.ts';

export type Started = Parameters<typeof terminalOf>[0] & { readonly argv: readonly string[]; readonly env: Sources['env'] };

/** Does what the command line says. @returns the exit code. */
export async function run({ argv, env, ...streams }: Started): Promise<number> {
  const terminal = terminalOf(streams, env);
  let command: Command | undefined;
  try {
    const parsed = parse(argv, version, terminal);
    if (!parsed) return 0;
    command = parsed.command;
    await perform(parsed, env, terminal);
    return 0;
  } catch (error) {
    return report(error, command, terminal);
  }
}

async function perform({ command, given, flags, json: asJson, dev }: Parsed, env: Sources['env'], terminal: Terminal): Promise<void> {
  await using held = new AsyncDisposableStack();
  const sources: Sources = { mode: (dev ? command.modes[1] : undefined) ?? command.modes[0], env, flags, readFile: readText };
  const note = (text: string): void => { terminal.err.line(terminal.err.paint('dim', plainText(text, 1_000))); };
  let settings: Settings | undefined;
  let desk: Promise<Desk> | undefined;
  let clock = systemClock();

  const on: On = {
    sources, terminal, note,
    clock: { now: () => clock.now() },
    json: asJson,
    settings: () => (settings ??= settingsOf(sources, note)),
    desk: (how = {}) => (desk ??= open(how)),
  };
  const answer = await command.does(on, given as Parameters<Command['does']>[1]); // commander gave what the row declares
  if (answer !== undefined) for (const line of answerLines(answer, command, on)) terminal.out.line(line);

  async function open(how: OpenStore): Promise<Desk> {
    const { openStore } = await import('./open-store.ts');
    const opened = await openStore(on.settings(), how, sources.mode === 'dev' ? 'demo' : 'operator', note);
    held.defer(opened.close);
    clock = opened.services.clock;
    return opened;
  }
}

function settingsOf(sources: Sources, note: (text: string) => void): Settings {
  const reading = readSettings(sources);
  for (const text of reading.notes) note(text);
  if ('mistakes' in reading) throw new Mistake(...reading.mistakes);
  return reading.settings;
}

/** The one printer: everything that a command answers goes through here. */
function answerLines(answer: Item | readonly Item[], { columns = [], says, none = '' }: Command, { json: asJson, terminal: { out }, clock }: On): string[] {
  const isOne = (found: Item | readonly Item[]): found is Item => !Array.isArray(found);
  if (asJson) return [JSON.stringify(isOne(answer) ? json(answer, columns) : answer.map((item) => json(item, columns)), null, 2)];
  if (!isOne(answer)) return answer.length === 0 && none !== '' ? [none] : table(answer, columns, out, clock.now());
  return says ? [plainText(says(answer), 1_000)] : record(answer, columns, out, clock.now());
}

/** Says on the standard error why not, and gives the exit code. */
function report(error: unknown, command: Command | undefined, { err }: Terminal): number {
  const say = (head: string, text: string): void => { err.line(`${err.paint(['bold', 'red'], `${head}:`)} ${plainText(text, 2_000)}`); };

  if (error instanceof WrongUsage) {
    say('Wrong usage', `${error.message.replace(/[^?]$/, '$&.')} See "${['portcullis', command?.name ?? error.command ?? [], '--help'].flat().join(' ')}".`);
    return 2;
  }
  const mistakes = mistakesOf(error);
  if (mistakes) {
    const isServer = command?.modes[0] === 'dev' || command?.modes[0] === 'serve';
    for (const line of mistakes) say(isServer ? 'Cannot start' : 'Not done', line);
    return 2;
  }
  if (error instanceof Cancelled) say('Cancelled', error.message || 'nothing was changed');
  else if (error instanceof Problem) sayProblem(error, say);
  else say('A fault', error instanceof Error ? `${error.name}: ${error.message}` : String(error));
  return 1;
}

/** To an operator the reason is said too. */
function sayProblem({ code, extra, message }: Problem, say: (head: string, text: string) => void): void {
  const { title, detail }: ProblemRow = problems[code];
  say(title, `${extra.detail ?? detail} (${message})`);
}
