import { nearest } from '../lib/nearest.ts';
import { type Kind, path as kindOfPath } from './kinds.ts';
import {
  type Demand,
  demands,
  doubts,
  flagOf,
  keyOf,
  type Mode,
  type Row,
  type SettingName,
  type Settings,
  table,
  variableOf,
} from './table.ts';

export type Sources = {
  readonly mode: Mode;
  readonly env: Readonly<Record<string, string | undefined>>;
  /** By the key of the file: `accessTokenTtl` for `--access-token-ttl`. */
  readonly flags: Readonly<Record<string, string | undefined>>;
  /** The text of a file in UTF-8. It may throw. */
  readonly readFile: (path: string) => string;
};

export type Origin = 'default' | 'dev' | 'file' | 'environment' | 'environment file' | 'flag';
/** By the name of the setting; one that is not set has no origin. */
export type Origins = Readonly<Record<string, Origin>>;

export type Reading =
  | { readonly settings: Settings; readonly origins: Origins; readonly notes: readonly string[] }
  /** `known`: what could be read all the same. */
  | { readonly mistakes: readonly string[]; readonly known: Partial<Settings>; readonly notes: readonly string[] };

/**
 * Defaults < file < environment < flags. A value that another one hides must be right too, or it would wait there for
 * the day when that one is removed.
 * @returns the settings, or every mistake at once, each a line of its own that never holds a secret.
 */
export function readSettings({ mode, env, flags, readFile }: Sources): Reading {
  const mistakes: string[] = [];
  const wrong = new Set<string>();
  const values: Record<string, unknown> = {};
  const origins: Record<string, Origin> = {};

  const links = Object.keys(env).filter((variable) => isServiceLink(variable, env[variable]));
  const notes = links.length
    ? [`Passed over ${links.join(', ')}: Kubernetes sets them for a service of this name; enableServiceLinks: false keeps them out.`]
    : [];
  const own = Object.fromEntries(
    Object.entries(env).filter(([variable]) => variable.startsWith('PORTCULLIS_') && !links.includes(variable)),
  );
  const path = flags['configFile'] ?? own['PORTCULLIS_CONFIG_FILE'];

  for (const said of [...byDefault(mode), ...inFile(path, readFile), ...inEnvironment(own, readFile), ...inFlags(flags)]) {
    try {
      if ('wrong' in said) throw new Error(said.wrong);
      values[said.row.name] = parse(said.row.kind, said.text);
      origins[said.row.name] = said.origin;
    } catch (error) {
      mistakes.push(`${said.label}: ${messageOf(error)}`);
      if (said.row) wrong.add(said.row.name);
    }
  }

  // Every row with a default was read by its own kind, or is in `wrong`, and then no demand is asked about it.
  const settings = values as Settings;
  const broken = (among: readonly Demand[]): string[] =>
    among
      .filter((demand) => (demand.under ?? mode) === mode && !demand.of.some((name) => wrong.has(name)) && demand.isBroken(settings))
      .map((demand) => complaint(demand, settings, origins));
  mistakes.push(...broken(demands));
  notes.push(...broken(doubts).map(oneLine));
  return mistakes.length ? { mistakes: mistakes.map(oneLine), known: settings, notes } : { settings, origins, notes };
}

export type ShownSetting = { readonly name: string; readonly value: string; readonly origin: Origin };

/** For `portcullis config`: each value as a text that could be set again, secrets only as "set" or "not set". */
export function showSettings(settings: Settings, origins: Origins, mode: Mode): ShownSetting[] {
  const isMade = ({ madeBy, name }: Row) => mode === 'dev' && madeBy === 'dev' && !(settings.tlsAtProxy && name.startsWith('tls'));
  return rows.map((row) => {
    const value = show(row, settings);
    if (value === undefined && isMade(row)) return { name: variableOf(row), value: 'made by dev', origin: 'dev' };
    return { name: variableOf(row), value: value ?? 'not set', origin: origins[row.name] ?? 'default' };
  });
}

/** One setting as one layer has it; or what is wrong there, with the row where that is known. */
type Said =
  | { readonly label: string; readonly row: Row; readonly origin: Origin; readonly text: string }
  | { readonly label: string; readonly row?: Row; readonly wrong: string };

const rows: readonly Row[] = table;

function* byDefault(mode: Mode): Generator<Said> {
  for (const row of rows) {
    const origin = mode === 'dev' && row.dev !== undefined ? 'dev' : 'default';
    const text = origin === 'dev' ? row.dev : row.default;
    if (text !== undefined) yield { label: `${variableOf(row)} (${origin})`, row, origin, text };
  }
}

function* inFile(path: string | undefined, readFile: Sources['readFile']): Generator<Said> {
  if (!path) return;
  const label = `PORTCULLIS_CONFIG_FILE ${JSON.stringify(path)}`;
  const content = attempt(() => readFile(path));
  if ('error' in content) return yield { label, wrong: `the file cannot be read (${codeOf(content.error)})` };
  const json = attempt((): unknown => JSON.parse(content.value));
  if ('error' in json) {
    // Only the place: the rest of the parser's message quotes the file, and the file may hold a secret.
    const place = /\(line \d+ column \d+\)/.exec(messageOf(json.error))?.[0];
    return yield { label, wrong: `the file is not JSON${place ? ` ${place}` : ''}` };
  }
  if (typeof json.value !== 'object' || json.value === null || Array.isArray(json.value)) {
    return yield { label, wrong: 'the file must be one JSON object, such as {"port": 5000}' };
  }

  for (const [key, value] of Object.entries(json.value)) {
    const row = rows.find((row) => keyOf(row) === key);
    if (!row) {
      yield { label: `${JSON.stringify(key)} (file)`, wrong: unknown(key, rows.map(keyOf)) };
      continue;
    }
    const label = `${variableOf(row)} (file, "${key}")`;
    const text = textOf(value, row.kind);
    if (row.env === 'CONFIG_FILE') yield { label, row, wrong: 'a file cannot name another one: set it in the environment or by its flag' };
    else if (text === undefined)
      yield { label, row, wrong: `${jsonTypeOf(value)} does not fit: it takes ${row.kind.takes}, as ${jsonTypes(row.kind)}` };
    else yield { label, row, origin: 'file', text };
  }
}

function* inEnvironment(env: Sources['env'], readFile: Sources['readFile']): Generator<Said> {
  const left = new Map(Object.entries(env));
  const take = (variable: string) => {
    const text = left.get(variable);
    left.delete(variable);
    return text;
  };

  for (const row of rows) {
    const variable = variableOf(row);
    const label = `${variable} (environment)`;
    const text = take(variable);
    const path = row.kind.secret ? take(`${variable}_FILE`) : undefined;
    if (text !== undefined && path !== undefined) {
      yield { label, row, wrong: `${variable}_FILE is set too: leave one of them out` };
    } else if (text !== undefined) {
      yield { label, row, origin: 'environment', text };
    } else if (path !== undefined) {
      const label = `${variable}_FILE (environment)`;
      if (path === '') {
        yield { label, row, wrong: `it is empty: leave it out, or write ${kindOfPath.takes}` };
        continue;
      }
      const content = attempt(() => readFile(path));
      if ('error' in content)
        yield {
          label,
          row,
          wrong: `the file ${isPlainPath(path) ? JSON.stringify(path) : 'that it names'} cannot be read (${codeOf(content.error)})`,
        };
      else yield { label, row, origin: 'environment file', text: content.value.replace(/\r?\n$/, '') };
    }
  }

  const names = rows.flatMap((row) => (row.kind.secret ? [variableOf(row), `${variableOf(row)}_FILE`] : [variableOf(row)]));
  for (const [variable, text] of left) {
    if (text !== undefined) yield { label: `${variable} (environment)`, wrong: unknown(variable, names) };
  }
}

function* inFlags(flags: Sources['flags']): Generator<Said> {
  for (const [key, text] of Object.entries(flags)) {
    if (text === undefined) continue;
    const row = rows.find((row) => keyOf(row) === key);
    if (!row) {
      yield { label: `${JSON.stringify(key)} (flag)`, wrong: unknown(key, rows.map(flagOf)) };
      continue;
    }
    const label = `${variableOf(row)} (flag ${flagOf(row)})`;
    if (row.kind.secret) yield { label, row, wrong: `every process of the machine can read the command line: set ${variableOf(row)}_FILE` };
    else yield { label, row, origin: 'flag', text };
  }
}

/**
 * What Kubernetes puts into every container for a service called portcullis (`PORTCULLIS_SERVICE_HOST`,
 * `PORTCULLIS_PORT_5000_TCP_ADDR`, `PORTCULLIS_PORT=tcp://…`), or for one whose name begins so.
 */
function isServiceLink(variable: string, text: string | undefined): boolean {
  if (text === undefined) return false;
  if (/^PORTCULLIS_(\w+_)?PORT$/.test(variable)) return /^(tcp|udp|sctp):\/\//.test(text);
  return /^PORTCULLIS_((SERVICE|PORT)_\w+|\w+_SERVICE_(HOST|PORT)(_\w+)?|\w+_PORT_\d+_(TCP|UDP|SCTP)(_\w+)?)$/.test(variable);
}

function parse<T>(kind: Kind<T>, text: string): T {
  if (text === '' && !kind.separator) throw new Error(`it is empty: leave it out, or write ${kind.takes}`);
  return kind.parse(text);
}

/** A JSON value as the text of this kind; `undefined` where it has another type. */
function textOf(value: unknown, kind: Kind<unknown>): string | undefined {
  if (typeof value === 'string') return value;
  if (typeof value === kind.json) return String(value);
  if (kind.separator && Array.isArray(value) && value.every((item) => typeof item === 'string' && item !== ''))
    return value.join(kind.separator);
  return undefined;
}

const jsonTypeOf = (value: unknown): string =>
  value === null ? 'null' : Array.isArray(value) ? 'this array' : typeof value === 'object' ? 'an object' : `a ${typeof value}`;

const jsonTypes = (kind: Kind<unknown>): string =>
  `a string${kind.json ? ` or a ${kind.json}` : kind.separator ? ' or an array of strings' : ''}`;

/** What a broken demand says: of whom, with what it is set to, and the same of the others that it looked at. */
function complaint({ of: [first, ...others], says }: Demand, settings: Settings, origins: Origins): string {
  const seen = (name: SettingName) => {
    const row = getRow(name);
    const value = show(row, settings);
    return `${variableOf(row)} (${value === undefined ? 'not set' : `${origins[name]}, ${JSON.stringify(value)}`})`;
  };
  return `${seen(first)}: ${says}${others.length ? `; at present: ${others.map(seen).join(', ')}` : ''}`;
}

function getRow(name: SettingName): Row {
  const row = rows.find((row) => row.name === name);
  if (!row) throw new Error(`the table has no row ${name}`);
  return row;
}

/** `undefined` for what is not set; what is switched off has a word for it. */
function show(row: Row, settings: Readonly<Record<string, unknown>>): string | undefined {
  const value = settings[row.name];
  return value === undefined && row.default === undefined ? undefined : row.kind.show(value);
}

/** "There is no such setting", with the nearest of the names that there are. */
function unknown(name: string, names: readonly string[]): string {
  const meant = nearest(name, names, bare);
  return `there is no such setting${meant === undefined ? '' : `: did you mean ${meant}?`}`;
}

/** A name without what differs between variable, key and flag. */
const bare = (name: string): string =>
  name
    .replace(/^PORTCULLIS_/i, '')
    .replace(/[^a-z\d]/gi, '')
    .toLowerCase();

function attempt<T>(act: () => T): { readonly value: T } | { readonly error: unknown } {
  try {
    return { value: act() };
  } catch (error) {
    return { error };
  }
}

const messageOf = (error: unknown): string => (error instanceof Error ? error.message : String(error));

/** Surely a path: anything else may be the secret itself, set under the wrong name, and is not quoted. */
const isPlainPath = (text: string): boolean => /^\.{0,2}(\/[\w.@-]{1,30})+$/.test(text);

/** `ENOENT`: of an error of a file, the part that quotes nothing. */
const codeOf = (error: unknown): string => (error instanceof Error && 'code' in error ? String(error.code) : 'for an unknown reason');

/** What was set may hold line ends and terminal sequences. */
const oneLine = (text: string): string => text.replace(/[\p{C}\p{Zl}\p{Zp}]/gu, '\uFFFD');
