import { setFlagsFromString } from 'node:v8';

const said = (names: string): boolean => process.execArgv.some((flag) => new RegExp(`^--(no[-_]?)?(${names})`).test(flag));

/** Where they are frozen, to set one would end the process. */
const set = said('freeze[-_]flags') ? () => {} : setFlagsFromString;

/**
 * V8's compilers for hot code; none where whoever started the process has a word on them himself, in any of V8's spellings. Under
 * `--jitless` there are none, and to switch one on would end the process.
 */
const compilers = 'WebAssembly' in globalThis && !said('opt|turbofan|maglev') ? ['opt', 'maglev'] : [];

/**
 * While modules are read all that is new stays, and V8 doubles the space for it up to 16 MB; what is hot then is Node's reader of
 * modules, never to be called again, and V8 compiles it with some 9 MB. Held back meanwhile, that memory is free, and starting takes less work.
 */
export function setForReading(): void {
  set('--semi-space-growth-factor=1');
  for (const name of compilers) set(`--no-${name}`);
}

/** As V8 has it by itself: under load it grows, and compiles, as is best for load. */
export function setForServing(): void {
  set('--semi-space-growth-factor=2');
  for (const name of compilers) set(`--${name}`);
}
