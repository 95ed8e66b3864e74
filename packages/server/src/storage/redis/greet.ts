import { mustBeMaster } from './redis-master.ts';
import type { Command } from './redis-node.ts';

/** What a Redis says of itself. */
export type Greeting = {
  /** Another one for each start of each server. */
  readonly runId: string;
  /** Why it may lose keys while it goes on. */
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
  const info = String(await command('INFO'));
  const valueOf = (name: string): string => new RegExp(`^${name}:(.*?)\\r?$`, 'm').exec(info)?.[1] ?? '';
  const [runId, policy] = [valueOf('run_id'), valueOf('maxmemory_policy')];
  if (runId === '') throw new Error('it does not say its run_id');
  const mayEvict = valueOf('maxmemory') !== '0' && policy !== 'noeviction';
  return { runId, mayForget: mayEvict ? `its maxmemory-policy is ${policy}, not noeviction` : undefined };
}
