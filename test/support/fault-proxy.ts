import { once } from 'node:events';
import net, { type AddressInfo, type Socket } from 'node:net';
import { type Ending, undoAfter } from './program.ts';

/** `up` is towards the server, `down` is its answers. */
type Direction = 'up' | 'down';

export type Trouble = {
  /** How much later everything arrives, in this direction or that. */
  readonly latencyMs: Readonly<Record<Direction, number>>;
  /**
   * What of it does not arrive, while this is so; afterwards it does, in its order. So a partition looks to whoever uses
   * TCP, which sends again what was lost.
   */
  readonly held: 'none' | Direction | 'both';
  /** A connection is reset behind so many bytes of answers from now on, drawn for each anew; `undefined` for none. */
  readonly cutAfter: (() => number) | undefined;
};

/** A TCP proxy on loopback that makes trouble when it is told. */
export type FaultProxy = {
  readonly port: number;
  /** Changes what it is told; the rest stays. */
  be(trouble: Partial<Trouble>): void;
  /** No trouble any more. */
  heal(): void;
  /** Where new connections go from now on; with `cut` those that are open are reset. */
  aim(port: number, how?: 'cut'): void;
  counts(): { readonly connections: number; readonly cuts: number; readonly bytes: Readonly<Record<Direction, number>> };
};

const none: Trouble = { latencyMs: { up: 0, down: 0 }, held: 'none', cutAfter: undefined };

/** Starts one in front of a port of loopback. It ends with the test. */
export async function startFaultProxy(t: Ending, to: number): Promise<FaultProxy> {
  let trouble = none;
  let target = to;
  let connections = 0;
  let cuts = 0;
  const bytes = { up: 0, down: 0 };
  /** Each open connection with what it does when the trouble has changed. */
  const open = new Map<() => void, () => void>();

  const server = net.createServer((near) => {
    connections += 1;
    const far = net.connect(target, '127.0.0.1');
    const end = (): void => {
      open.delete(end);
      near.destroy();
      far.destroy();
    };
    const reset = (): void => {
      open.delete(end);
      near.resetAndDestroy();
      far.resetAndDestroy();
    };
    for (const socket of [near, far]) socket.setNoDelay().on('error', end).on('close', end);

    let left = Infinity;
    const up = pipe(near, far, 'up', (chunk) => chunk);
    const down = pipe(far, near, 'down', (chunk) => {
      if (left === Infinity && trouble.cutAfter) left = trouble.cutAfter();
      if (!trouble.cutAfter) left = Infinity;
      left -= chunk.length;
      if (left > 0) return chunk;
      cuts += 1;
      // The part arrives, and then nothing: a reset at once would take it along.
      setTimeout(reset, 1);
      return chunk.subarray(0, chunk.length + left);
    });
    open.set(end, () => {
      up();
      down();
    });
  });

  /** @returns to be called when the trouble has changed. */
  function pipe(from: Socket, to: Socket, direction: Direction, through: (chunk: Buffer) => Buffer): () => void {
    const waiting: { readonly chunk: Buffer; readonly cameAt: number }[] = [];
    let timer: NodeJS.Timeout | undefined;
    const flow = (): void => {
      clearTimeout(timer);
      if (trouble.held === direction || trouble.held === 'both') return;
      for (let first = waiting[0]; first; first = waiting[0]) {
        const waitMs = first.cameAt + trouble.latencyMs[direction] - performance.now();
        if (waitMs > 0) {
          timer = setTimeout(flow, waitMs);
          return;
        }
        waiting.shift();
        const passed = through(first.chunk);
        bytes[direction] += passed.length;
        if (to.writable) to.write(passed);
      }
    };
    from.on('data', (chunk: Buffer) => {
      waiting.push({ chunk, cameAt: performance.now() });
      flow();
    });
    return flow;
  }

  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  undoAfter(t, () => {
    server.close();
    for (const end of open.keys()) end();
  });
  const be = (changed: Partial<Trouble>): void => {
    trouble = { ...trouble, ...changed };
    for (const flow of open.values()) flow();
  };
  return {
    port: (server.address() as AddressInfo).port, // it listens on TCP
    be,
    heal: () => be(none),
    aim(port, how) {
      target = port;
      if (how === 'cut') for (const end of open.keys()) end();
    },
    counts: () => ({ connections, cuts, bytes: { ...bytes } }),
  };
}
