import { createHash } from 'node:crypto';
import { createClient, ErrorReply } from '@redis/client';
import { Problem } from '../../domain/problem.ts';

/** The way to Redis: every call ends within our own deadline, and while Redis is away each is refused at once. */
export interface RedisLink {
  /** @throws {Problem} `unavailable` */
  run(script: string, keys: readonly string[], args: readonly string[]): Promise<unknown>;
  /** @throws {Problem} `unavailable` */
  command(...words: readonly string[]): Promise<unknown>;
  isUp(): boolean;
  close(): void;
}

export type RedisLinkOptions = {
  /** `redis://`, `rediss://` or `unix:` */
  readonly url: string;
  /** Where the URL has none. */
  readonly password?: string | undefined;
  readonly timeoutMs: number;
  /**
   * Told of each new connection before anybody else may use it: who has restarted is not who he was. While it rejects, the
   * link stays down.
   */
  readonly greet: (command: RedisLink['command']) => Promise<void>;
  /** Told when the link goes up or down, also when it is down from the start. */
  readonly onChange?: (isUp: boolean, why: string) => void;
};

/** So many calls in a row that come to nothing, and Redis counts as away. */
const FAILURES = 3;
const RETRY_MS = 200;

type Client = ReturnType<typeof connectTo>['client'];

/**
 * Opens the link, and keeps it: a connection that breaks, or on which several answers in a row do not come in time, is
 * dropped with all that waits on it, and a new one is tried for five times a second until Redis is back. @returns at once.
 */
export function openRedis({ url, password, timeoutMs, greet, onChange }: RedisLinkOptions): RedisLink {
  let client: Client | undefined;
  let failures = 0;
  let isClosed = false;
  let told: boolean | undefined;
  let timer: NodeJS.Timeout | undefined;
  void connect();

  async function connect(): Promise<void> {
    let fresh: Client | undefined;
    try {
      const opened = connectTo(url, password, timeoutMs);
      const current = (fresh = opened.client);
      current.on('error', (error) => drop(current, error.message));
      await within(timeoutMs, opened.ready);
      await greet((...words) => within(timeoutMs, current.sendCommand([...words])));
      if (isClosed) throw new Error('closed');
      client = current;
      failures = 0;
      tell(true, 'connected');
    } catch (error) {
      fresh?.destroy();
      tell(false, error instanceof Error ? error.message : 'unknown');
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

  function drop(broken: Client, why: string): void {
    if (broken !== client) return;
    client = undefined;
    broken.destroy();
    tell(false, why);
    again();
  }

  async function call(ask: (client: Client) => Promise<unknown>): Promise<unknown> {
    const current = client;
    if (!current) throw away('away');
    try {
      const answer = await within(timeoutMs, ask(current));
      failures = 0;
      return answer;
    } catch (error) {
      const why = error instanceof Error ? error.message : 'unknown';
      if (error instanceof ErrorReply && !passing.test(why)) throw error;
      failures += 1;
      if (failures >= FAILURES || isOther.test(why)) drop(current, why);
      throw away(why);
    }
  }

  const shas = new Map<string, string>();
  const shaOf = (script: string): string => {
    const known = shas.get(script) ?? createHash('sha1').update(script).digest('hex');
    shas.set(script, known);
    return known;
  };

  return {
    async run(script, keys, args) {
      const rest = [String(keys.length), ...keys, ...args];
      try {
        return await call((current) => current.sendCommand(['EVALSHA', shaOf(script), ...rest]));
      } catch (error) {
        if (!(error instanceof Error && error.message.startsWith('NOSCRIPT'))) throw error;
        return call((current) => current.sendCommand(['EVAL', script, ...rest]));
      }
    },
    command: (...words) => call((current) => current.sendCommand([...words])),
    isUp: () => client !== undefined,
    close() {
      isClosed = true;
      clearTimeout(timer);
      client?.destroy();
      client = undefined;
    },
  };
}

/** Said by a Redis that is there and cannot serve us: starting, a replica, full, busy with somebody's script, part of a cluster, not ours to write to. */
const passing =
  /^(LOADING|READONLY|OOM|BUSY|UNKILLABLE|MASTERDOWN|MISCONF|CLUSTERDOWN|TRYAGAIN|NOREPLICAS|NOAUTH|NOPERM|WRONGPASS|MOVED|CROSSSLOT)\b/;

/** It is not the one any more that was greeted. */
const isOther = /^(READONLY|NOAUTH|NOPERM|WRONGPASS|MOVED|CROSSSLOT)\b/;

const away = (why: string): Problem => new Problem('unavailable', `Redis: ${why}`, { retryAfterS: 1 });

/** One connection, which is not mended: what is queued on a broken one has lost its meaning. */
function connectTo(url: string, password: string | undefined, timeoutMs: number) {
  const client = createClient({
    url,
    ...(password !== undefined && { password }),
    disableOfflineQueue: true,
    socket: { connectTimeout: timeoutMs, reconnectStrategy: false },
  });
  const opened = new Promise<void>((done, failed) => {
    client.once('error', failed);
    client.connect().then(() => done(), failed);
  });
  return { client, ready: opened };
}

async function within<T>(ms: number, work: Promise<T>): Promise<T> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<never>((_, fail) => {
    timer = setTimeout(() => fail(new Error(`no answer within ${ms} ms`)), ms);
  });
  try {
    return await Promise.race([work, late]);
  } finally {
    clearTimeout(timer);
  }
}
