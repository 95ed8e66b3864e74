import { away, type Command, openNode, type RedisNode, type RedisNodeOptions } from './redis-node.ts';

type Ask = RedisNode['call'];

/** One that takes writes, and what is known of its replicas. */
export interface RedisMaster extends Omit<RedisNode, 'call'> {
  readonly ask: Ask;
  /**
   * As `ask`; but it does not end well before replicas have what was written.
   * @throws {Problem} `unavailable` also where it was written here and they have not said in time that they have it.
   */
  readonly keep: Ask;
}

export type RedisMasterOptions = RedisNodeOptions & {
  /** How many of its replicas must have what is kept; `undefined`: one, while it has any. */
  readonly replicas: number | undefined;
};

/**
 * A connection that waits for replicas answers nothing else meanwhile, so what is kept goes over a second one: a replica
 * that hangs holds up revocations, and no limit.
 */
export function openMaster({ replicas, ...options }: RedisMasterOptions): RedisMaster {
  const { where, manners, greet, onChange } = options;
  const ids: { main?: string; second?: string } = {};
  const second: RedisNode | undefined =
    replicas === 0
      ? undefined
      : openNode({
          where,
          manners,
          async greet(command) {
            await mustBeMaster(command);
            ids.second = await identityOf(command);
          },
        });
  const main = openNode({
    where,
    manners,
    async greet(command) {
      await greet(command);
      ids.main = await identityOf(command);
    },
    onChange(isUp, why) {
      if (!isUp) second?.drop(why); // nobody waits for it either
      onChange?.(isUp, why);
    },
  });
  const waitMs = Math.floor(manners.timeoutMs / 2); // it must answer before we count it as hung

  let last = Promise.resolve();
  let next: Promise<void> | undefined;
  /** All that was written before a `WAIT` begins shares it; one at a time. */
  const confirmed = (through: RedisNode): Promise<void> =>
    (next ??= last
      .catch(() => {})
      .then(() => {
        next = undefined;
        return (last = wait(through));
      }));

  async function wait({ call }: RedisNode): Promise<void> {
    const wanted = replicas ?? Math.min(1, replicasOf(await call(['ROLE'])));
    if (wanted === 0) return;
    const have = Number(await call(['WAIT', String(wanted), String(waitMs)]));
    if (!(have >= wanted)) throw away(`of ${wanted} replicas, ${have} have confirmed`);
  }

  return {
    ask: main.call,
    async keep(words, before) {
      if (!second) return main.call(words, before);
      if (!main.isUp()) throw away('away');
      if (ids.main !== ids.second && second.isUp()) {
        // Behind one name there may be several: what one of them is told, the other does not know.
        for (const node of [main, second]) node.drop('its two connections lead to different servers');
        throw away('its two connections lead to different servers');
      }
      const answer = await second.call(words, before);
      await confirmed(second);
      return answer;
    },
    isUp: main.isUp,
    tried: Promise.all([main.tried, second?.tried]).then(() => {}),
    drop(why) {
      main.drop(why);
      second?.drop(why);
    },
    close() {
      main.close();
      second?.close();
    },
  };
}

/** Another one for each start of a server, and for each time that it became a master. */
export async function identityOf(command: Command): Promise<string> {
  const [server, replication] = await Promise.all(['server', 'replication'].map((section) => command('INFO', section)));
  const [runId, replicationId] = [infoOf(String(server), 'run_id'), infoOf(String(replication), 'master_replid')];
  if (runId === '') throw new Error('it does not say its run_id');
  return `${runId} ${replicationId}`;
}

export const infoOf = (info: string, name: string): string => new RegExp(`^${name}:(.*?)\\r?$`, 'm').exec(info)?.[1] ?? '';

/** A replica takes no writes, nor does it have any replicas that could be waited for. */
export async function mustBeMaster(command: Command): Promise<void> {
  const role = await command('ROLE');
  if (!Array.isArray(role) || role[0] !== 'master') throw new Error('this is a replica');
}

/** Those that are connected and have the whole of it. */
const replicasOf = (role: unknown): number => (Array.isArray(role) && Array.isArray(role[2]) ? role[2].length : 0);
