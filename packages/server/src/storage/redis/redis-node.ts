import type { ConnectionOptions } from 'node:tls';
import { createClient, ErrorReply } from '@redis/client';
import { Problem } from '../../domain/problem.ts';
import { type RedisAddress, showRedisAddress } from '../../lib/redis-url.ts';
import { within } from '../../lib/within.ts';

export type Command = (...words: readonly string[]) => Promise<unknown>;

/** One Redis, asked over one connection at a time. Every call ends within our own deadline, and while it is away each is refused at once. */
export interface RedisNode {
  /**
   * @param before is sent right before it, and its answer not looked at.
   * @throws {Problem} `unavailable`; or {ErrorReply}, what Redis says against this command alone.
   */
  call(words: readonly string[], before?: readonly string[]): Promise<unknown>;
  isUp(): boolean;
  /** Ends when the first connection has been made, or has not come about. */
  readonly tried: Promise<void>;
  /** Lets the connection go with all that waits on it, and makes another. */
  drop(why: string): void;
  close(): void;
}

/** How all of one house are spoken to. */
export type RedisManners = {
  readonly username?: string | undefined;
  readonly password?: string | undefined;
  readonly database?: number;
  readonly tls?: ConnectionOptions | undefined;
  readonly timeoutMs: number;
};

export type RedisNodeOptions = {
  /** Asked before each connection. */
  readonly where: () => RedisAddress | Promise<RedisAddress>;
  readonly manners: RedisManners;
  /** Told of each new connection before anybody else may use it. While it rejects, the node stays down. */
  readonly greet: (command: Command) => Promise<void>;
  /** Told when it goes up or down, also when it is down from the start. */
  readonly onChange?: ((isUp: boolean, why: string) => void) | undefined;
};

export const RETRY_MS = 200;

/** So many calls in a row that come to nothing, and a node counts as away. */
const FAILURES = 3;

/**
 * Opens a node, and keeps it: a connection that breaks, or on which several answers in a row do not come in time, is
 * dropped with all that waits on it, and a new one is tried for five times a second until it is back. @returns at once.
 */
export function openNode({ where, manners, greet, onChange }: RedisNodeOptions): RedisNode {
  const { timeoutMs } = manners;
  let client: Client | undefined;
  let failures = 0;
  let isClosed = false;
  let told: boolean | undefined;
  let timer: NodeJS.Timeout | undefined;
  const tried = connect();

  async function connect(): Promise<void> {
    let fresh: Client | undefined;
    try {
      const address = await where();
      const opened = connectTo(address, manners);
      const current = (fresh = opened.client);
      current.on('error', (error) => drop(current, error.message));
      await within(timeoutMs, opened.ready);
      await greet((...words) => within(timeoutMs, current.sendCommand([...words])));
      if (showRedisAddress(await where()) !== showRedisAddress(address)) throw new Error('it is another one meanwhile');
      if (isClosed) throw new Error('closed');
      client = current;
      failures = 0;
      tell(true, 'connected');
    } catch (error) {
      fresh?.destroy();
      tell(false, reasonOf(error));
      again();
    }
  }

  function tell(isUp: boolean, why: string): void {
    if (told === isUp || isClosed) return;
    told = isUp;
    onChange?.(isUp, why);
  }

  function again(): void {
    if (!isClosed) timer = setTimeout(() => void connect(), RETRY_MS).unref();
  }

  function drop(broken: Client | undefined, why: string): void {
    if (!broken || broken !== client) return;
    client = undefined;
    broken.destroy();
    tell(false, why);
    again();
  }

  return {
    async call(words, before) {
      const current = client;
      if (!current) throw away('away');
      try {
        if (before) current.sendCommand(before).catch(() => {}); // what is sent in one turn arrives in this order, with nothing between
        const answer = await within(timeoutMs, current.sendCommand(words));
        failures = 0;
        return answer;
      } catch (error) {
        const why = reasonOf(error);
        if (error instanceof ErrorReply && !isTrouble.test(why)) throw error;
        failures += 1;
        if (failures >= FAILURES || isOther.test(why)) drop(current, why);
        throw away(why);
      }
    },
    isUp: () => client !== undefined,
    tried,
    drop: (why) => drop(client, why),
    close() {
      isClosed = true;
      clearTimeout(timer);
      client?.destroy();
      client = undefined;
    },
  };
}

export const away = (why: string): Problem => new Problem('unavailable', `Redis: ${why}`, { retryAfterS: 1 });

export const reasonOf = (error: unknown): string => (error instanceof Error ? error.message : 'unknown');

/** Said by a Redis that is there and cannot serve us: starting, a replica, full, busy with somebody's script, not ours to write to. */
const isTrouble = /^(LOADING|READONLY|OOM|BUSY|UNKILLABLE|MASTERDOWN|MISCONF|NOREPLICAS|NOAUTH|NOPERM|WRONGPASS)\b/;

/** It is not the one any more that was greeted. */
const isOther = /^(READONLY|NOAUTH|NOPERM|WRONGPASS)\b/;

type Client = ReturnType<typeof connectTo>['client'];

/** One connection, which is not mended: what is queued on a broken one has lost its meaning. */
function connectTo(address: RedisAddress, { username, password, database = 0, tls, timeoutMs }: RedisManners) {
  const always = { connectTimeout: timeoutMs, reconnectStrategy: false } as const;
  const client = createClient({
    ...(username !== undefined && { username }),
    ...(password !== undefined && { password }),
    database,
    disableOfflineQueue: true,
    commandOptions: { timeout: 0 }, // `call` has one of its own, and theirs is an AbortSignal for each
    socket: tls && 'host' in address ? { ...always, ...address, ...tls, tls: true } : { ...always, ...address },
  });
  const ready = new Promise<void>((done, failed) => {
    client.once('error', failed);
    client.connect().then(() => done(), failed);
  });
  return { client, ready };
}
