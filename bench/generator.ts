import type { Ending } from '../test/support/program.ts';
import { heard, startChild } from './child.ts';
import { watchCpu } from './cpu.ts';
import type { Done, Order } from './load.ts';

/** A server to be measured, and the processes beside it whose CPU time its requests cost. */
export type Target = {
  readonly port: number;
  readonly ca: string;
  readonly host?: string | undefined;
  /** All that serve. */
  readonly pids: () => readonly number[];
  /** By the name of the store. */
  readonly stores?: Readonly<Record<string, () => readonly number[]>>;
};

/** What is asked of it, and what it must answer each time. */
export type Asking = Omit<Order, 'host' | 'port' | 'ca' | 'forMs'> & { readonly status: number };

/** What a while of it cost: CPU time for each completed request, of the server and of each store, microseconds. */
export type Slice = Done & { readonly cpuUs: number; readonly storesUs: Readonly<Record<string, number>> };

export type Generator = {
  /** @throws {Error} when anything else is answered, or nothing in time. */
  slice(target: Target, asking: Asking, forMs: number): Promise<Slice>;
};

/** What asks: a process of its own, so that none of its work is the server's. */
export function openGenerator(until: Ending, signal: AbortSignal): Generator {
  const child = startChild(until, 'load.ts');

  async function run(order: Order): Promise<Done> {
    const late = AbortSignal.timeout(order.forMs + 30_000);
    const done = heard<Done>(child, AbortSignal.any([signal, late]));
    child.send(order);
    return done;
  }

  return {
    async slice({ port, ca, host, pids, stores = {} }, { status, ...asking }, forMs) {
      const order = { ...asking, host, port, ca };
      await run({ ...order, forMs: 0 });
      const server = watchCpu(pids());
      const beside = Object.entries(stores).map(([name, pids]) => ({ name, spent: watchCpu(pids()) }));
      const done = await run({ ...order, forMs });
      const cpuUs = server() / done.completed;
      const storesUs = Object.fromEntries(beside.map(({ name, spent }) => [name, spent() / done.completed]));
      if (done.completed === 0 || done.statuses.some((other) => other !== status))
        throw new Error(
          `${asking.method} ${asking.path} on port ${port}: ${done.statuses.join(', ') || 'no answer'} in place of ${status}`,
        );
      return { ...done, cpuUs, storesUs };
    },
  };
}
