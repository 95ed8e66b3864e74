import type { RedisAddress } from '../../lib/redis-url.ts';
import { away, openNode, type RedisManners } from './redis-node.ts';

/** The watchers of a master and its replicas, who agree among themselves which of them is the master. */
export interface RedisSentinels {
  /** Who is the master, by the newest of what the sentinels say. @throws {Problem} `unavailable` if none of them says. */
  master(): Promise<RedisAddress>;
  close(): void;
}

export function openSentinels(addresses: readonly RedisAddress[], name: string, manners: RedisManners): RedisSentinels {
  const sentinels = addresses.map((address) => openNode({ where: () => address, manners, greet: async () => {} }));

  return {
    async master() {
      await Promise.all(sentinels.map(({ tried }) => tried));
      const said = await Promise.allSettled(
        sentinels.map(async ({ call }) => {
          const [state, address] = await Promise.all([
            call(['SENTINEL', 'MASTER', name]), // one that was cut off knows an older epoch than the others
            call(['SENTINEL', 'GET-MASTER-ADDR-BY-NAME', name]),
          ]);
          return { epoch: epochOf(state), address: addressOf(address) };
        }),
      );
      const [newest] = said.flatMap((one) => (one.status === 'fulfilled' ? [one.value] : [])).toSorted((a, b) => b.epoch - a.epoch);
      if (!newest) throw away(`no sentinel knows the master of ${name}`);
      return newest.address;
    },
    close() {
      for (const sentinel of sentinels) sentinel.close();
    },
  };
}

/** Names and values in turn. */
function epochOf(state: unknown): number {
  const epoch = Array.isArray(state) ? Number(state[state.indexOf('config-epoch') + 1]) : NaN;
  return Number.isInteger(epoch) ? epoch : -1;
}

function addressOf(answer: unknown): RedisAddress {
  const [host, port] = Array.isArray(answer) ? answer : [];
  if (typeof host !== 'string' || !Number(port)) throw away('a sentinel knows no such master');
  return { host, port: Number(port) };
}
