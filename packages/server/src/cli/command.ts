import type { Clock } from '@portcullis/guard';
import type { Desk } from '../desk.ts';
import type { Sources } from '../settings/read.ts';
import type { Mode, Settings } from '../settings/table.ts';
import type { OpenStore } from './open-store.ts';
import type { Column, Item } from './print.ts';
import type { Terminal } from './terminal.ts';

/** A command is one row: how it is called, what it does, and what it shows. Help, reference and printing are made from it. */
export type Row<A extends Readonly<Record<string, Argument>>, O extends Readonly<Record<string, Option>>, I extends Item> = {
  /** One word, or the noun and the verb. */
  readonly name: string;
  /** Whose settings it reads, see {@link Mode}. A second one is what `--dev` makes of it. */
  readonly modes: readonly [Mode, 'dev'?];
  /** Which settings are its options: all, or those that find the store. */
  readonly settings: 'all' | 'store';
  readonly args?: A;
  readonly options?: O;
  readonly summary: string;
  /** Paragraphs for `--help`: what a reader must know beside that. */
  readonly about?: readonly string[];
  /** The command line behind `portcullis`, and what it is an example of. */
  readonly examples: readonly (readonly [line: string, says: string])[];
  /** What is shown of each item; without columns it has no `--json`, and speaks for itself. */
  readonly columns?: readonly Column<I>[];
  /** For people: one sentence for what was done, instead of a record. */
  readonly says?: (item: I) => string;
  /** For people: a sentence in place of a table without rows. */
  readonly none?: string;
  /** Items are shown as a table, one item as `says` or as a record; nothing, when the command has spoken itself. */
  readonly does: (on: On, given: Given<A, O>) => Promise<I | readonly I[] | void>;
};

export type Argument = { readonly says: string; readonly optional?: true };

/** With `takes`, the word for its value, it has one; without, it is a switch. */
export type Option = { readonly says: string; readonly takes?: string; readonly oneOf?: readonly string[] };

export type Given<A, O> =
  & { readonly [K in keyof A]: A[K] extends { readonly optional: true } ? string | undefined : string }
  & { readonly [K in keyof O]: O[K] extends { readonly takes: string } ? string | undefined : boolean };

/** What a command works with. */
export type On = {
  readonly sources: Sources;
  /** @throws {Mistake} when first asked for, with every mistake in them. */
  settings(): Settings;
  readonly clock: Clock;
  readonly terminal: Terminal;
  readonly json: boolean;
  /** The store; it is closed when the command is done. See {@link openStore}. */
  desk(how?: OpenStore): Promise<Desk>;
  /** Says something beside the answer. */
  note(text: string): void;
};

export type Command = Row<Readonly<Record<string, Argument>>, Readonly<Record<string, Option>>, Item>;

/** Holds a row's parts to each other; behind it, all rows are of one kind. */
export function command<const A extends Readonly<Record<string, Argument>>, const O extends Readonly<Record<string, Option>>, I extends Item>(row: Row<A, O, I>): Command {
  return row as unknown as Command; // what the row declares is what it is given and shown, and nothing else
}

/** A command line that cannot be followed; `command` is the one whose help would help. */
export class WrongUsage extends Error {
  readonly command: string | undefined;

  constructor(message: string, command?: string) {
    super(message);
    this.command = command;
  }
}

/** The operator has said no. */
export class Cancelled extends Error {}
