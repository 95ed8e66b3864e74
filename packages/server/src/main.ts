import { setForReading } from './engine-flags.ts';

process.umask(0o077); // whatever this process writes is for its own user alone
const argv = process.argv.slice(2);
const isServer = argv[0] === 'dev' || argv[0] === 'serve';
if (isServer) setForReading(); // before all else is read
const { run } = await import('./cli/run.ts');
process.stdout.on('error', (error: NodeJS.ErrnoException) => {
  if (isServer) return; // a server does not end because nobody reads its start lines
  process.exit(error.code === 'EPIPE' ? 0 : 1); // whoever read it has seen enough (… | head), or the disk is full and half an answer is none
});
process.exitCode = await run({ argv, env: process.env, stdout: process.stdout, stderr: process.stderr });
