// What Node compiles is kept beside the program and read again at the next start: a third of its work, and of its memory,
// which else go to a reader of TypeScript. What is read from there is run without another look, so it must be nobody's who
// could not write the program itself, and never in a place that all users share, where Node would put it.
import { lstatSync, mkdirSync } from 'node:fs';
import { enableCompileCache } from 'node:module';
import { fileURLToPath } from 'node:url';

const folder = fileURLToPath(new URL('../.compiled', import.meta.url));
process.umask(0o077);
try {
  mkdirSync(folder, { mode: 0o755 });
} catch {
  // It is there, or this user may not write the program: then there is none, unless it was made with the program.
}
if (isSafe(folder)) {
  enableCompileCache(folder);
  process.env.NODE_COMPILE_CACHE ??= folder; // for the processes that this one starts
}

function isSafe(path) {
  try {
    const { uid, mode } = lstatSync(path);
    const owners = [0, process.getuid?.(), lstatSync(import.meta.filename).uid];
    return (mode & 0o170022) === 0o040000 && owners.includes(uid); // a folder, no link to one, and its owner's alone to write
  } catch {
    return false;
  }
}
