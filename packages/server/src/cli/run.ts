import { serverLog } from '../lib/server-log.ts';
import { start } from '../start.ts';
import { readText } from '../lib/files.ts';

export async function run({ argv, env }: { argv: readonly string[]; env: Record<string, string | undefined> }): Promise<void> {
  const mode = argv[0] === 'serve' ? 'serve' : 'dev';
  const running = await start({ mode, env, flags: {}, readFile: readText });
  if ('mistakes' in running) {
    for (const line of running.mistakes) console.error(line);
    process.exitCode = 2;
    return;
  }
  console.log(`Listening on https://localhost:${running.address.port}`);
  for (const signal of ['SIGTERM', 'SIGINT'] as const) process.once(signal, () => { void running.stop().then(() => process.exit(0)); });
  serverLog.info('ready');
}
