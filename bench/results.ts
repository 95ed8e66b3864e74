import type { BesideLine } from './beside-line.ts';
import type { Compared } from './compare.ts';
import type { Step } from './ladder.ts';
import type { Machine } from './machine.ts';
import type { PeerCost } from './peers.ts';
import type { Held } from './requests.ts';

/** What a run found, as `--json` writes it and the docs read it. */
export type Results = {
  /** What makes it again. */
  readonly command: string;
  readonly machine: Machine;
} & Found;

export type Found =
  | { readonly what: 'requests'; readonly rows: readonly Held[] }
  | { readonly what: 'ladder'; readonly ladders: readonly (readonly Step[])[] }
  | { readonly what: 'peers'; readonly rows: readonly PeerCost[] }
  | { readonly what: 'beside'; readonly lines: readonly BesideLine[] }
  | { readonly what: 'compare'; readonly ref: string; readonly rows: readonly Compared[] };
