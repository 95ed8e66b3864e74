import type { X509Certificate } from 'node:crypto';
import type { ServerResponse } from 'node:http';
import type { Socket } from 'node:net';
import { type ClientAddress, clientAddress, type Clock, type Peer } from '@portcullis/guard';
import type { WireTimes } from '../wire.ts';

/** One accepted TCP connection, from accept to close. */
export type Connection = {
  readonly socket: Socket;
  /** The peer; once a PROXY header has been read, whom it named. */
  from: ClientAddress;
  /** TLS all the way from there: it ended here, or a PROXY header said so. */
  encrypted: boolean;
  phase: Phase;
  /** Grows with each use of any connection: the smallest is the longest idle. */
  used: number;
  /** HTTP/1.1: the answer to the request that came last. */
  response: ServerResponse | undefined;
  /** Whose certificates its handshake believes. */
  clientCa?: string | undefined;
  /** What its client proved to be in the handshake; then `dueAt`, when it must have ended. */
  client?: X509Certificate;
  dueAt?: number;
  /** The next answer is to be its last. */
  isLast?: boolean;
};

/** What a connection is at: opening, HTTP/1.1, HTTP/2, or leaving. */
export type Phase = {
  readonly is: 'opening' | 'http1' | 'http2' | 'leaving';
  /** Is a request in flight? */
  busy(): boolean;
  /** Ends what will be overdue at the next check, which comes at `by`. */
  check(by: number): void;
  /** Each answer from now on says that the connection ends. */
  drain(): void;
  /** No further request is waited for: what is idle ends. */
  finish(): void;
};

/** Who is at the other end of a socket that this wire has accepted. */
export function peerOf(socket: Socket): Peer | undefined {
  const connection = socket[held];
  return connection && { address: connection.from.address, encrypted: connection.encrypted };
}

/** Where a socket and an HTTP/2 stream keep the connection they belong to. */
export const held: unique symbol = Symbol('connection');

declare module 'node:net' {
  interface Socket {
    [held]?: Connection;
  }
}
declare module 'node:http2' {
  interface ServerHttp2Stream {
    [held]?: Connection;
  }
}

export type Connections = ReturnType<typeof makeConnections>;

/** The open connections, of which there are never more than the bounds allow: the one longest idle makes room. */
export function makeConnections({
  max,
  maxPerAddress,
  isProxy,
  ipv6Prefix,
  times,
  clock,
}: {
  max: number;
  maxPerAddress: number;
  isProxy: (address: string) => boolean;
  ipv6Prefix: number | undefined;
  times: WireTimes;
  clock: Clock;
}) {
  const all = new Set<Connection>();
  const blocks = new Map<string, Set<Connection>>();
  const evicted = { 'all connections': 0, 'one address': 0 };
  let uses = 0;
  let whenEmpty: (() => void) | undefined;

  return {
    all: all as ReadonlySet<Connection>,
    /** How many had to make room, by which bound. */
    evicted: evicted as Readonly<typeof evicted>,

    /** A new connection, with room made for it. */
    add(socket: Socket, address: string): Connection {
      const from = clientAddress(address, ipv6Prefix);
      const neighbours = makeRoomIn(from);
      if (all.size >= max) evict('all connections', all);

      const connection: Connection = { socket, from, encrypted: false, phase: opening(socket), used: ++uses, response: undefined };
      all.add(connection);
      if (neighbours) blocks.set(from.block, neighbours.add(connection));
      socket[held] = connection;
      socket.once('close', () => forget(connection));
      return connection;
    },

    /** A PROXY header has named who is there. The connection, until now a proxy's and so counted for no address, is one of his. */
    rename(connection: Connection, address: string): void {
      connection.from = clientAddress(address, ipv6Prefix);
      const neighbours = makeRoomIn(connection.from);
      if (neighbours) blocks.set(connection.from.block, neighbours.add(connection));
    },

    touch(connection: Connection): void {
      connection.used = ++uses;
    },

    /** The last word is said: the peer gets a moment to read it and to close. */
    leave(connection: Connection): void {
      const since = clock.now();
      connection.phase = {
        is: 'leaving',
        busy: no,
        check: (by) => {
          if (by >= since + times.lingerMs) end(connection);
        },
        drain: nothing,
        finish: nothing,
      };
    },

    /** Done when none is left, or after so long. */
    empty(withinMs: number): Promise<void> {
      const { promise, resolve } = Promise.withResolvers<void>();
      const timer = setTimeout(resolve, withinMs);
      whenEmpty = resolve;
      if (all.size === 0) resolve();
      return promise.finally(() => clearTimeout(timer));
    },

    end,
    opening,
  };

  /** The connections of his block, with room for one more; `undefined` for a proxy, whose are not counted. */
  function makeRoomIn({ address, block }: ClientAddress): Set<Connection> | undefined {
    if (isProxy(address)) return undefined;
    const neighbours = blocks.get(block) ?? new Set();
    if (neighbours.size >= maxPerAddress) evict('one address', neighbours);
    return neighbours;
  }

  /** @param late what to do with one that is not through in time. */
  function opening(socket: Socket, late: () => void = () => socket.destroy()): Phase {
    const due = clock.now() + times.handshakeMs;
    return {
      is: 'opening',
      busy: no,
      check: (by) => {
        if (by >= due) late();
      },
      drain: nothing,
      finish: () => socket.destroy(),
    };
  }

  function evict(bound: keyof typeof evicted, among: ReadonlySet<Connection>): void {
    end(longestIdle(among));
    evicted[bound] += 1;
  }

  /** Counts as gone at once: the close that follows takes a turn of the event loop. */
  function end(connection: Connection): void {
    forget(connection);
    connection.socket.destroy();
  }

  function forget(connection: Connection): void {
    if (!all.delete(connection)) return;
    const { block } = connection.from;
    const neighbours = blocks.get(block);
    if (neighbours?.delete(connection) && neighbours.size === 0) blocks.delete(block);
    if (all.size === 0) whenEmpty?.();
  }
}

/** Of those without a request in flight; of all, if each has one. */
function longestIdle(among: ReadonlySet<Connection>): Connection {
  let chosen: Connection | undefined;
  let chosenIsBusy = true;
  for (const connection of among) {
    if (chosen && connection.used > chosen.used && !chosenIsBusy) continue;
    const busy = connection.phase.busy();
    if (chosen && (busy === chosenIsBusy ? connection.used > chosen.used : busy)) continue;
    [chosen, chosenIsBusy] = [connection, busy];
  }
  if (!chosen) throw new Error('a bound on connections must be at least 1');
  return chosen;
}

/** Bytes that a peer must take of its answer in each `answerMs`, where there are so many. */
const TAKEN_AT_LEAST = 64 * 1024;

/** How long so many bytes may wait to be taken. */
export const patience = (bytes: number, answerMs: number): number => Math.max(1, Math.ceil(bytes / TAKEN_AT_LEAST)) * answerMs;

/** Tells, check by check, whether a peer for whom bytes wait has stopped reading. `taken` counts up. */
export function slowReader(answerMs: number): (by: number, waiting: number, taken: number) => boolean {
  let mark: { due: number; taken: number } | undefined;
  return (by, waiting, taken) => {
    if (waiting === 0) mark = undefined;
    else if (!mark || taken - mark.taken >= TAKEN_AT_LEAST) mark = { due: by + patience(waiting, answerMs), taken };
    return mark !== undefined && by >= mark.due;
  };
}

const no = () => false;
const nothing = () => {};
