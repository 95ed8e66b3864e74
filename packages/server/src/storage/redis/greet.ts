/** What a Redis says of itself. */
export type Greeting = {
  /** Another number for each start of each server. */
  readonly run: number;
  /** Why it may lose keys while it goes on. */
  readonly mayForget: string | undefined;
};

/**
 * Asks a Redis who it is. A replica takes no writes, nor does one that is full or broken: it could count nothing.
 * @throws {Error} when it is not to be used.
 */
export async function greet(command: (...words: readonly string[]) => Promise<unknown>): Promise<Greeting> {
  const role = await command('ROLE');
  if (!Array.isArray(role) || role[0] !== 'master') throw new Error('this is a replica');
  await command('SET', 'portcullis:greeting', '1', 'PX', '1000');
  const info = new Map(
    String(await command('INFO'))
      .split('\r\n')
      .map((line) => [line.slice(0, line.indexOf(':')), line.slice(line.indexOf(':') + 1)]),
  );
  const run = Number.parseInt((info.get('run_id') ?? '').slice(0, 12), 16);
  if (!Number.isSafeInteger(run)) throw new Error('it does not say its run_id');
  const policy = info.get('maxmemory_policy') ?? 'noeviction';
  const evicts = info.get('maxmemory') !== '0' && policy !== 'noeviction';
  return { run, mayForget: evicts ? `its maxmemory-policy is ${policy}, not noeviction` : undefined };
}
