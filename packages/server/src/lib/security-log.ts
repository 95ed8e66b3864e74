import { constants, openSync } from 'node:fs';
import type { Clock, Refusal } from '@portcullis/guard';
import pino from 'pino';
import { type LineSink, lineSink } from './line-sink.ts';
import { refusalSums } from './refusal-sums.ts';
import { type Tally, tally } from './tally.ts';

/**
 * The log of suspicious acts: one JSON line each. No password, token or hash is ever handed to it, and untrusted text
 * comes bounded and escaped.
 */
export interface SecurityLog {
  /** The first refusal of a code from an address block at once; more of the same, summed, once a minute. */
  refused(refusal: Refusal): void;
  /** An act that is on record, in the audit as well. */
  acted(act: Readonly<Record<string, unknown>> & { readonly act: string }): void;
  /** How many acts of each kind there were since the start. */
  readonly acts: Tally;
  state: LineSink['state'];
  /** Writes what a minute has summed up. */
  flush(): void;
  /**
   * Opens its file anew, by its name: after a rotation has renamed it.
   * @throws {Error} what the system says of a file that cannot be opened; then it goes on in the old one.
   */
  reopen(): 'reopened' | 'no file';
  /** Writes what there is, if that can be done at once. */
  close(): void;
}

/**
 * @param on.file a path, `stdout` or `stderr`.
 * @param on.sync write each line before going on: for a process that is about to end.
 * @throws {Error} when the file cannot be opened.
 */
export function securityLog(on: { file: string; clock: Clock; sync?: boolean }): SecurityLog {
  const open = (): number => openSync(on.file, APPEND, 0o600);
  const sink = lineSink(standard[on.file] ?? open(), on.sync ? 'at once' : 'behind');
  const time = (): string => `,"time":"${new Date(on.clock.now()).toISOString()}"`;
  const log = pino({ base: null, timestamp: time, formatters: { level: (level) => ({ level }) } }, sink);
  const acts = tally();
  const sums = refusalSums({ clock: on.clock, tell: (line) => log.warn({ act: 'refused', ...line }) });

  return {
    refused: sums.add,
    acted(act) {
      acts.add(act.act);
      log.info(act);
    },
    acts,
    state: sink.state,
    flush: () => sums.tell(),
    reopen() {
      if (standard[on.file] !== undefined) return 'no file';
      sink.moveTo(open());
      return 'reopened';
    },
    close() {
      sums.tell(0);
      sink.close();
    },
  };
}

/** To append, and never to wait: the file may be a pipe whose reader stands still. */
const APPEND = constants.O_APPEND | constants.O_CREAT | constants.O_WRONLY | constants.O_NONBLOCK;

const standard: Readonly<Record<string, number>> = { stdout: 1, stderr: 2 };
