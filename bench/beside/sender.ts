import { once } from 'node:events';
import { connect } from 'node:tls';

/** What to send to a port, over connections that are kept for the next order. */
export type Order = {
  readonly port: number;
  readonly ca: string;
  /** The address that it comes from. Default: that of loopback. */
  readonly from?: string;
  /** A whole request; `ADDRESS` in it is another one each time, of so many. */
  readonly request: string;
  readonly addresses?: number;
  readonly lines: number;
  /** So many a second, each at its time, whether or not answers have come; without it each line sends when it has its answer. */
  readonly rate?: number;
  /** How long a line rests that was told to come again later, on average. Default: not at all. */
  readonly restMs?: number;
  readonly forMs: number;
};

export type Sent = {
  readonly completed: number;
  readonly perSecond: number;
  /** From the time that each was due to be sent; without a rate, from when it was. */
  readonly p50Ms: number;
  readonly p99Ms: number;
  /** How many of each status; 0 where no answer came. */
  readonly statuses: Readonly<Record<number, number>>;
  /** CPU time of the sender in parts of the time it took: near 1, it is the sender that was measured. */
  readonly busy: number;
};

type Line = { send(text: string): Promise<number> };

const TICK_MS = 1;
const kept = new Map<string, Promise<Line[]>>();

process.on('message', (order: Order) => void send(order).then((sent) => process.send?.(sent)));
process.once('disconnect', () => process.exit());

async function send(order: Order): Promise<Sent> {
  const place = `${order.port} ${order.from} ${order.lines}`;
  const lines = await kept.getOrInsertComputed(place, () => Promise.all(Array.from({ length: order.lines }, () => open(order))));
  const took: number[] = [];
  const statuses: Record<number, number> = {};
  let sent = 0;
  const text = (): string =>
    order.addresses ? order.request.replace('ADDRESS', addressOf((sent * 7_919) % order.addresses)) : order.request;
  const ask = async (line: Line, dueAt: number): Promise<number> => {
    const asked = line.send(text());
    sent += 1;
    const status = await asked;
    took.push(performance.now() - dueAt);
    statuses[status] = (statuses[status] ?? 0) + 1;
    return status;
  };
  const cpu = process.cpuUsage();
  const began = performance.now();
  const until = began + order.forMs;
  await (order.rate === undefined ? eachInTurn() : atItsTime(order.rate));
  const tookMs = performance.now() - began;
  const { user, system } = process.cpuUsage(cpu);
  took.sort((a, b) => a - b);
  const part = (share: number): number => took[Math.floor(took.length * share)] ?? NaN;
  return {
    completed: took.length,
    perSecond: (took.length * 1_000) / tookMs,
    p50Ms: part(0.5),
    p99Ms: part(0.99),
    statuses,
    busy: (user + system) / 1_000 / tookMs,
  };

  async function eachInTurn(): Promise<void> {
    await Promise.all(
      lines.map(async (line) => {
        while (performance.now() < until) {
          const status = await ask(line, performance.now());
          if (status >= 429 && order.restMs) await new Promise((next) => setTimeout(next, (0.5 + Math.random()) * order.restMs!));
        }
      }),
    );
  }

  /** Who is due and finds all lines taken, waits for one: its time goes on. */
  async function atItsTime(rate: number): Promise<void> {
    const free = [...lines];
    const waiting: number[] = [];
    const asked: Promise<void>[] = [];
    const next = (line: Line): Promise<void> => {
      const dueAt = waiting.shift();
      if (dueAt === undefined) return Promise.resolve(void free.push(line));
      return ask(line, dueAt).then(() => next(line));
    };
    for (let due = 0; ;) {
      const now = performance.now();
      for (; began + (due * 1_000) / rate <= Math.min(now, until); due++) waiting.push(began + (due * 1_000) / rate);
      while (free.length > 0 && waiting.length > 0) asked.push(next(free.shift()!));
      if (now >= until) break;
      await new Promise((tick) => setTimeout(tick, TICK_MS));
    }
    await Promise.all(asked);
  }
}

const addressOf = (i: number): string => `10.${(i >> 16) & 255}.${(i >> 8) & 255}.${i & 255}`;

async function open({ port, ca, from }: Order): Promise<Line> {
  const place = { host: '127.0.0.1', port, ca, servername: 'localhost', ...(from !== undefined && { localAddress: from }) };
  const socket = connect({ ...place, minVersion: 'TLSv1.3', ALPNProtocols: ['http/1.1'] });
  await once(socket, 'secureConnect');
  socket.setEncoding('latin1').setNoDelay();
  let received = '';
  let answered: (status: number) => void = () => {};
  socket.on('data', (text: string) => {
    received += text;
    const end = received.indexOf('\r\n\r\n');
    const length = Number(/\r\ncontent-length: (\d+)/i.exec(received)?.[1]);
    if (end < 0 || received.length < end + 4 + length) return;
    const status = Number(received.slice(9, 12)); // HTTP/1.1 200
    received = '';
    answered(status);
  });
  socket.on('error', () => {});
  socket.on('close', () => answered(0));
  return {
    send: (text) =>
      new Promise((resolve) => {
        answered = resolve;
        if (!socket.write(text) && socket.destroyed) resolve(0);
      }),
  };
}
