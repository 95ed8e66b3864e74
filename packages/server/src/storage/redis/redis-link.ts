import { createHash } from 'node:crypto';
import type { ConnectionOptions } from 'node:tls';
import { ErrorReply } from '@redis/client';
import { readRedisUrl, type RedisUrl, showRedisAddress } from '../../lib/redis-url.ts';
import { openCluster, type RedisCluster } from './redis-cluster.ts';
import { openMaster } from './redis-master.ts';
import { away, type Command, reasonOf } from './redis-node.ts';
import { openSentinels } from './redis-sentinels.ts';

/** The way to Redis: every call ends within our own deadline, and while Redis is away each is refused at once. */
export interface RedisLink {
  /** @throws {Problem} `unavailable` */
  run(script: string, keys: readonly string[], args: readonly string[]): Promise<unknown>;
  /** As `run`, for what must not be lost: ends well once replicas have it too, where there are any. @throws {Problem} `unavailable` */
  keep(script: string, keys: readonly string[], args: readonly string[]): Promise<unknown>;
  /** In a cluster the first word behind the command is its key. @throws {Problem} `unavailable` */
  command(...words: readonly string[]): Promise<unknown>;
  /** In a cluster: whether all of it is there. While a part is away, calls for the others are answered. */
  isUp(): boolean;
  /** Asks each node that has keys. @param near makes of a key's name one that belongs to it. */
  each(ask: (command: Command, near: (key: string) => string) => Promise<void>): Promise<void>;
  /** All keys of one script must be of one slot, then. */
  readonly isCluster: boolean;
  close(): void;
}

export type RedisLinkOptions = {
  /** As {@link readRedisUrl} reads it. */
  readonly url: string;
  /** Where the URL has none. */
  readonly password?: string | undefined;
  readonly sentinelPassword?: string | undefined;
  /** The authorities whose certificates are believed over TLS, as PEM; those that Node believes by default. */
  readonly ca?: string | undefined;
  /** How many replicas must have what is kept; `undefined`: one, while there is any. */
  readonly waitReplicas?: number | undefined;
  readonly timeoutMs: number;
  /**
   * Told of each new connection before anybody else may use it: who has restarted is not who he was. While it rejects, the
   * link stays down. In a cluster each node with keys is greeted for itself, and `near` makes of a name one that it has.
   */
  readonly greet: (command: Command, near: (key: string) => string) => Promise<void>;
  /** Told when the link goes up or down, also when it is down from the start. */
  readonly onChange?: (isUp: boolean, why: string) => void;
  /** Told of a refusal that is Redis's answer to this one call: somebody else's value under our key, or a fault of ours. */
  readonly onOdd?: (why: string) => void;
};

/** Opens the link, and keeps it. @returns at once. */
export function openRedis(options: RedisLinkOptions): RedisLink {
  const url = readRedisUrl(options.url);
  const { ask, keep, each, isUp, close } = reachOf(url, options);

  async function whole(answer: Promise<unknown>): Promise<unknown> {
    try {
      return await answer;
    } catch (error) {
      if (!(error instanceof ErrorReply)) throw error;
      options.onOdd?.(error.message);
      throw away(error.message);
    }
  }

  async function run(how: RedisCluster['ask'], script: string, keys: readonly string[], args: readonly string[]): Promise<unknown> {
    const [key = ''] = keys;
    const rest = [String(keys.length), ...keys, ...args];
    try {
      return await how(key, ['EVALSHA', shaOf(script), ...rest]);
    } catch (error) {
      if (!(error instanceof ErrorReply && error.message.startsWith('NOSCRIPT'))) throw error;
      return how(key, ['EVAL', script, ...rest]);
    }
  }

  return {
    run: (script, keys, args) => whole(run(ask, script, keys, args)),
    keep: (script, keys, args) => whole(run(keep, script, keys, args)),
    command: (...words) => whole(ask(words[1] ?? '', words)),
    each: async (asked) => void (await whole(each(asked))),
    isUp,
    isCluster: url.kind === 'cluster',
    close,
  };
}

const shas = new Map<string, string>();

function shaOf(script: string): string {
  const sha = shas.get(script) ?? createHash('sha1').update(script).digest('hex');
  shas.set(script, sha);
  return sha;
}

/** One Redis and the one that sentinels name are a cluster of one, to those who ask. */
function reachOf(url: RedisUrl, options: RedisLinkOptions): RedisCluster {
  const { greet, onChange, waitReplicas: replicas, timeoutMs, ca } = options;
  const tls: ConnectionOptions | undefined = url.isTls ? { ...(ca !== undefined && { ca }) } : undefined;
  const manners = { username: url.username, password: url.password ?? options.password, tls, timeoutMs };
  if (url.kind === 'cluster') return openCluster({ seeds: url.seeds, manners, replicas, greet, onChange });

  const toMaster = {
    replicas,
    onChange,
    greet: (command: Command) => greet(command, same),
    manners: { ...manners, database: url.database },
  };
  if (url.kind === 'one') return oneOf(openMaster({ ...toMaster, where: () => url.address }));

  const sentinels = openSentinels(url.sentinels, url.master, { tls, timeoutMs, password: options.sentinelPassword });
  let current: string | undefined;
  /** The old master may not know yet that it is none any more: whoever stays with it writes what nobody will read. */
  const where = async () => {
    const address = await sentinels.master();
    const [before, now] = [current, showRedisAddress(address)];
    current = now;
    if (before !== undefined && now !== before) master.drop(`the sentinels name ${now} in place of ${before}`);
    return address;
  };
  const master = openMaster({ ...toMaster, where });
  // While no sentinel answers, nothing is known to have changed.
  const watch = setInterval(() => void where().catch(() => {}), WATCH_MS).unref();
  const one = oneOf(master);
  return {
    ...one,
    close() {
      clearInterval(watch);
      one.close();
      sentinels.close();
    },
  };
}

/** How soon a failover is noticed of which the old master does not tell. */
const WATCH_MS = 1_000;

function oneOf(master: ReturnType<typeof openMaster>): RedisCluster {
  const alone = async (answer: Promise<unknown>): Promise<unknown> => {
    try {
      return await answer;
    } catch (error) {
      const why = reasonOf(error);
      if (!(error instanceof ErrorReply) || !isClustered.test(why)) throw error;
      master.drop(`${why}: a node of a cluster, whose URL begins with redis+cluster`);
      throw away(why);
    }
  };
  return {
    ask: (_, words) => alone(master.ask(words)),
    keep: (_, words) => alone(master.keep(words)),
    each: (ask) => ask((...words) => alone(master.ask(words)), same),
    isUp: master.isUp,
    close: master.close,
  };
}

/** What only a node of a cluster says. */
const isClustered = /^(MOVED|ASK|TRYAGAIN|CROSSSLOT|CLUSTERDOWN)\b/;

const same = (key: string): string => key;
