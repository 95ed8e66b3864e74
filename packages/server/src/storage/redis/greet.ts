import { infoOf, mustBeMaster } from './redis-master.ts';
import type { Command } from './redis-node.ts';

/** What a Redis says of itself. */
export type Greeting = {
  /** Another one for each start of each server, and for each time that one became a master. */
  readonly identity: string;
  /** Why it may lose keys while it goes on, or has lost some. */
  readonly mayForget: string | undefined;
};

/**
 * Asks a Redis who it is. A replica takes no writes, nor does one that is full or broken: it could count nothing.
 * @param near makes of a key's name one that belongs to it.
 * @throws {Error} when it is not to be used.
 */
export async function greet(command: Command, near: (key: string) => string): Promise<Greeting> {
  await mustBeMaster(command);
  await command('SET', near('portcullis:greeting'), '1', 'PX', '1000');
  return greetingOf(String(await command('INFO')));
}

/** What it threw away is as gone as what a restart has lost. */
export function greetingOf(info: string): Greeting {
  const [runId, policy] = [infoOf(info, 'run_id'), infoOf(info, 'maxmemory_policy')];
  if (runId === '') throw new Error('it does not say its run_id');
  const mayEvict = infoOf(info, 'maxmemory') !== '0' && policy !== 'noeviction';
  return {
    identity: [runId, infoOf(info, 'master_replid'), infoOf(info, 'evicted_keys')].join(' '),
    mayForget: mayEvict ? `its maxmemory-policy is ${policy}, not noeviction` : undefined,
  };
}
