import { enableCompileCache } from 'node:module';

enableCompileCache();
process.umask(0o077); // whatever this process writes is for its own user alone
const { run } = await import('./cli/run.ts');
process.stdout.on('error', () => process.exit()); // whoever read it has seen enough: portcullis audit list | head
process.exitCode = await run({ argv: process.argv.slice(2), env: process.env, stdout: process.stdout, stderr: process.stderr });
