process.umask(0o077); // whatever this process writes is for its own user alone
const { run } = await import('./cli/run.ts');
const argv = process.argv.slice(2);
process.stdout.on('error', (error: NodeJS.ErrnoException) => {
  if (argv[0] === 'dev' || argv[0] === 'serve') return; // a server does not end because nobody reads its start lines
  process.exit(error.code === 'EPIPE' ? 0 : 1); // whoever read it has seen enough (… | head), or the disk is full and half an answer is none
});
process.exitCode = await run({ argv, env: process.env, stdout: process.stdout, stderr: process.stderr });
