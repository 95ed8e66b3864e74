import { Command as Commander, CommanderError, Option } from 'commander';
import { nearest } from '../lib/nearest.ts';
import { flagOf, type Row as SettingRow, table } from '../settings/table.ts';
import { WrongUsage, type Command } from './command.ts';
import { commands, commonOptions, exitCodes, nouns } from './commands.ts';
import type { Terminal } from './terminal.ts';

export type Parsed = {
  readonly command: Command;
  /** Arguments and options of its own, by name. */
  readonly given: Readonly<Record<string, string | boolean | undefined>>;
  /** Settings, by the key of the file. */
  readonly flags: Readonly<Record<string, string>>;
  readonly json: boolean;
  readonly dev: boolean;
};

/**
 * Reads the command line. `undefined`: it was a question for help or the version, and is answered.
 * @throws {WrongUsage} with what is wrong and what is right.
 */
export function parse(argv: readonly string[], version: string, terminal: Terminal): Parsed | undefined {
  let parsed: Parsed | undefined;
  const program = makeProgram(version, terminal, (found) => { parsed = found; });
  try {
    program.parse(argv, { from: 'user' });
  } catch (error) {
    if (!(error instanceof CommanderError)) throw error;
    if (error.exitCode === 0) return undefined;
    const words = argv.filter((word) => !word.startsWith('-'));
    throw new WrongUsage(complaint(error, words), commandOf(words));
  }
  return parsed;
}

/** A commander of all rows. */
function makeProgram(version: string, { out, err }: Terminal, onCommand: (parsed: Parsed) => void): Commander {
  const bold = (text: string): string => out.paint('bold', text);
  const program = new Commander('portcullis')
    .description('Logins, sessions, limits and revocation for an API, over HTTPS.')
    .version(version, '-V, --version', 'Show the version.')
    .helpOption('-h, --help', 'Show this.')
    .helpCommand(false)
    .exitOverride()
    .configureOutput({
      writeOut: out.write, writeErr: err.write, outputError: () => {},
      getOutHelpWidth: () => out.width ?? 100, getErrHelpWidth: () => err.width ?? 100,
      getOutHasColors: () => out.hasColour, getErrHasColors: () => err.hasColour,
    })
    .configureHelp({
      styleTitle: bold,
      styleOptionText: (text) => out.paint('cyan', text), styleSubcommandText: (text) => out.paint('cyan', text), styleArgumentText: (text) => out.paint('cyan', text),
      visibleCommands: leaves,
      subcommandTerm: (command) => [...namesOf(command), ...command.registeredArguments.map((argument) => (argument.required ? argument.name() : `[${argument.name()}]`))].join(' '),
      argumentTerm: (argument) => argument.name(),
    });

  const groups = new Map<string, Commander>();
  const group = (noun: string): Commander => groups.get(noun) ?? groups.set(noun, program.command(noun).description(nouns[noun] ?? '').usage('VERB …').helpCommand(false)).get(noun) ?? program;
  for (const row of commands) {
    const [noun = '', verb] = row.name.split(' ');
    fill(verb === undefined ? program.command(noun) : group(noun).command(verb), row, onCommand, bold);
  }
  program.addHelpText('after', `\n${bold('Exit codes:')}\n${exitCodes.map(([code, means]) => `  ${code}  ${means}`).join('\n')}\n\n"portcullis COMMAND --help" shows what a command takes, with examples.`);
  return program;
}

function fill(command: Commander, row: Command, onCommand: (parsed: Parsed) => void, bold: (text: string) => string): void {
  command.summary(row.summary).description([`${row.summary}.`, ...(row.about ?? [])].join('\n\n'));
  const args = Object.entries(row.args ?? {});
  for (const [name, { says, optional }] of args) command.argument(optional ? `[${name.toUpperCase()}]` : `<${name.toUpperCase()}>`, says);
  const own = Object.entries(row.options ?? {});
  for (const [name, { says, takes, oneOf }] of own) {
    const option = new Option(`--${dashed(name)}${takes === undefined ? '' : ` <${takes}>`}`, says);
    command.addOption(oneOf ? option.choices(oneOf) : option);
  }
  if (row.columns) command.option('--json', commonOptions.json);
  if (row.modes[1]) command.option('--dev', commonOptions.dev);
  command.usage([...args.map(([name, { optional }]) => (optional ? `[${name.toUpperCase()}]` : name.toUpperCase())), '[options]'].join(' '));

  for (const setting of settingsOf(row)) {
    const usual = (row.modes[0] === 'dev' ? setting.dev : undefined) ?? setting.default ?? '';
    const option = new Option(`${flagOf(setting)} <${setting.kind.json === 'number' ? 'N' : 'TEXT'}>`, `${setting.says}${setting.kind.words ? ` One of ${setting.kind.words.join(', ')}.` : ''}${usual === '' ? '' : ` (${usual})`}`).helpGroup('Settings, each also as PORTCULLIS_… in the environment or in the file:');
    command.addOption(setting.kind.secret ? option.hideHelp() : option); // a secret is understood only to be refused, with what to do instead
  }
  const lines = row.examples.map(([line]) => `portcullis ${line}`);
  const width = Math.max(...lines.map((line) => line.length));
  command.addHelpText('after', `\n${bold('Examples:')}\n${row.examples.map(([, says], i) => `  ${(lines[i] ?? '').padEnd(width)}  ${says}`).join('\n')}`);

  command.action((...all) => {
    const options: Record<string, string | boolean | undefined> = command.opts();
    const { json, dev, ...rest } = options;
    const names = new Set(own.map(([name]) => name));
    onCommand({
      command: row,
      given: { ...Object.fromEntries(args.map(([name], i) => [name, all[i]])), ...Object.fromEntries(own.map(([name, { takes }]) => [name, takes === undefined ? rest[name] === true : rest[name]])) },
      flags: Object.fromEntries(Object.entries(rest).flatMap(([name, value]) => (names.has(name) || typeof value !== 'string' ? [] : [[name, value]]))),
      json: json === true,
      dev: dev === true,
    });
  });
}

/** The commands that do something, below this one. */
const leaves = (command: Commander): Commander[] => command.commands.flatMap((child) => (child.commands.length > 0 ? leaves(child) : [child]));

const namesOf = (command: Commander): string[] => (command.parent ? [...namesOf(command.parent), command.name()] : []);

/** The settings that are options of a command. */
export function settingsOf({ settings }: Pick<Command, 'settings'>): readonly SettingRow[] {
  const rows: readonly SettingRow[] = table;
  return settings === 'all' ? rows : rows.filter(({ name }) => ['dataDir', 'database', 'configFile'].includes(name));
}

/** `passwordStdin` as `password-stdin`. */
export const dashed = (name: string): string => name.replace(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`);

/** What commander complains of, in our words. What was typed is quoted only where it can be no secret. */
function complaint({ code, message }: CommanderError, words: readonly string[]): string {
  const [, first = '', second = ''] = /'([^'=]*)[^']*'(?:[^']*'([^']*)')?/.exec(message) ?? [];
  const name = first.replace(/ <.*/, '');
  switch (code) {
    case 'commander.help': return words.length === 0 ? 'say what to do' : `say what to do with ${words[0]}`;
    case 'commander.unknownCommand': {
      const meant = nearestCommand(words);
      const known = Object.hasOwn(nouns, words[0] ?? '');
      return `there is no command "${words.slice(0, known ? 2 : 1).join(' ')}"${meant === undefined ? '' : `: did you mean "${meant}"?`}`;
    }
    case 'commander.unknownOption': {
      const meant = /Did you mean (--[\w-]+)/.exec(message)?.[1];
      return `there is no option ${name} here${meant === undefined ? '; what begins with a dash and is none comes last, behind "--"' : `: did you mean ${meant}?`}`;
    }
    case 'commander.missingArgument': return `${name} is missing`;
    case 'commander.optionMissingArgument': return `${name} needs a value`;
    case 'commander.invalidArgument': return `${name} takes ${/choices are (.*)\./.exec(message)?.[1]}, not ${JSON.stringify(second)}`;
    case 'commander.excessArguments': return 'there are more arguments than it takes; one with blanks in it needs quotes';
    default: return message.replace(/^error: /, '').replaceAll('\n', ' ');
  }
}

/** The command or the noun that a line begins with, for its `--help`. */
function commandOf([first = '', second = '']: readonly string[]): string | undefined {
  return commands.find(({ name }) => name === `${first} ${second}` || name === first)?.name ?? (Object.hasOwn(nouns, first) ? first : undefined);
}

function nearestCommand(words: readonly string[]): string | undefined {
  const names = commands.map(({ name }) => name);
  return nearest(words.slice(0, 2).join(' '), names) ?? nearest(words[0] ?? '', [...names, ...Object.keys(nouns)]);
}
