import { globSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { type Ending, folderFor } from './program.ts';

const library = globSync('/usr/lib/*/faketime/libfaketimeMT.so.1').at(0);

export const isFaketimeHere = library !== undefined;

/** The wall clock of programs that are started with `env`, by libfaketime; their monotonic clock goes on as it does. */
export type WallClock = {
  readonly env: Record<string, string>;
  /** From now on off by so many seconds; it takes effect within a moment. */
  shift(seconds: number): void;
  /** Stands still at this time. */
  freeze(atMs: number): void;
};

export function wallClock(t: Ending): WallClock {
  if (!library) throw new Error('libfaketime is not installed');
  const file = join(folderFor(t), 'faketime');
  const shift = (seconds: number): void => writeFileSync(file, `${seconds < 0 ? '' : '+'}${seconds}\n`);
  shift(0);
  return {
    // The clock that time-outs go by is left alone, as it is where a real clock is set.
    env: { LD_PRELOAD: library, FAKETIME_TIMESTAMP_FILE: file, FAKETIME_NO_CACHE: '1', FAKETIME_DONT_FAKE_MONOTONIC: '1', TZ: 'UTC' },
    shift,
    freeze: (atMs) => writeFileSync(file, `${new Date(atMs).toISOString().slice(0, 19).replace('T', ' ')}\n`),
  };
}
