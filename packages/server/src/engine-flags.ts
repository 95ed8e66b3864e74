import { setFlagsFromString } from 'node:v8';

/**
 * V8's compilers for hot code, but for those that the command line has switched off. Under `--jitless` there are none, and
 * to switch one on would end the process.
 */
const compilers = 'WebAssembly' in globalThis ? ['opt', 'maglev'].filter((name) => !process.execArgv.includes(`--no-${name}`)) : [];

/**
 * While modules are read all that is new stays, and V8 doubles the space for it up to 16 MB; what is hot then is Node's reader of
 * modules, never to be called again, and V8 compiles it with some 9 MB. Held back meanwhile, that memory is free, and starting takes less work.
 */
export function setForReading(): void {
  setFlagsFromString('--semi-space-growth-factor=1');
  for (const name of compilers) setFlagsFromString(`--no-${name}`);
}

/** As V8 has it by itself: under load it grows, and compiles, as is best for load. */
export function setForServing(): void {
  setFlagsFromString('--semi-space-growth-factor=2');
  for (const name of compilers) setFlagsFromString(`--${name}`);
}
