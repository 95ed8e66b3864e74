import { once } from 'node:events';
import { connect as connectHttp2, type ClientHttp2Session } from 'node:http2';
import { connect as connectTls } from 'node:tls';

/** Asks for one request again and again, over every connection to a port, as soon as each answer is in. */
export type Order = {
  readonly port: number;
  readonly over: 'HTTP/1.1' | 'HTTP/2';
  readonly ca: string;
  readonly method: string;
  readonly path: string;
  readonly headers: Readonly<Record<string, string>>;
  readonly forMs: number;
};

export type Done = {
  readonly completed: number;
  readonly tookMs: number;
  /** Of each answer, in the order of size. */
  readonly p50Ms: number;
  readonly p99Ms: number;
  readonly statuses: readonly number[];
};

/** One request at a time; the status of its answer, once its last byte is in, or 0 where none came. */
type Line = { ask(order: Order): Promise<number> };

/** With HTTP/2, four streams on each of eight connections. */
const LINES = 32;
const STREAMS = 4;

/** Kept between orders: handshakes are not what is measured. */
const kept = new Map<string, Promise<Line[]>>();

process.on('message', (order: Order) => void load(order).then((done) => process.send?.(done)));
process.once('disconnect', () => process.exit());

async function load(order: Order): Promise<Done> {
  const place = `${order.over} ${order.port}`;
  const lines = await kept.getOrInsertComputed(place, () => (order.over === 'HTTP/1.1' ? http1Lines(order) : http2Lines(order)));
  const took: number[] = [];
  const statuses = new Set<number>();
  const began = performance.now();
  // Stays awake: on loopback the kernel charges the waking of a sleeper to whoever sends to it, and the faster of two servers would never pay.
  let working = true;
  (function stayAwake() {
    if (working) setImmediate(stayAwake);
  })();
  await Promise.all(
    lines.map(async (line) => {
      for (let at = began; at < began + order.forMs;) {
        statuses.add(await line.ask(order));
        const now = performance.now();
        took.push(now - at);
        at = now;
      }
    }),
  );
  working = false;
  const tookMs = performance.now() - began;
  took.sort((a, b) => a - b);
  const part = (share: number) => took[Math.floor(took.length * share)] ?? NaN;
  return { completed: took.length, tookMs, p50Ms: part(0.5), p99Ms: part(0.99), statuses: [...statuses] };
}

function http1Lines({ port, ca }: Order): Promise<Line[]> {
  return Promise.all(
    Array.from({ length: LINES }, async () => {
      const socket = connectTls({
        host: '127.0.0.1',
        port,
        ca,
        servername: 'localhost',
        minVersion: 'TLSv1.3',
        ALPNProtocols: ['http/1.1'],
      });
      await once(socket, 'secureConnect');
      socket.setEncoding('latin1').setNoDelay();
      let received = '';
      let answered: (status: number) => void = () => {};
      socket.on('data', (text: string) => {
        received += text;
        if (!isWhole(received)) return;
        const status = Number(received.slice(9, 12)); // HTTP/1.1 200
        received = '';
        answered(status);
      });
      socket.on('close', () => answered(0));
      return {
        ask: (order) =>
          new Promise((resolve) => {
            answered = resolve;
            if (!socket.write(bytesOf(order)) && socket.destroyed) resolve(0);
          }),
      };
    }),
  );
}

function isWhole(text: string): boolean {
  const end = text.indexOf('\r\n\r\n');
  if (/\r\ntransfer-encoding: chunked\r\n/i.test(text)) return text.endsWith('\r\n0\r\n\r\n');
  const length = /\r\ncontent-length: (\d+)/i.exec(text)?.[1];
  return end >= 0 && text.length >= end + 4 + Number(length);
}

const requests = new WeakMap<Order, Buffer>();

function bytesOf(order: Order): Buffer {
  let bytes = requests.get(order);
  if (!bytes) {
    const lines = Object.entries({ host: `localhost:${order.port}`, ...order.headers }).map(([name, value]) => `${name}: ${value}\r\n`);
    requests.set(order, (bytes = Buffer.from(`${order.method} ${order.path} HTTP/1.1\r\n${lines.join('')}\r\n`)));
  }
  return bytes;
}

async function http2Lines({ port, ca }: Order): Promise<Line[]> {
  const sessions = await Promise.all(
    Array.from({ length: LINES / STREAMS }, async () => {
      const session = connectHttp2(`https://localhost:${port}`, { host: '127.0.0.1', ca, minVersion: 'TLSv1.3' });
      await once(session, 'remoteSettings');
      return session;
    }),
  );
  return sessions.flatMap((session) => Array.from({ length: STREAMS }, () => ({ ask: (order) => askOver(session, order) }) satisfies Line));
}

function askOver(session: ClientHttp2Session, { method, path, headers }: Order): Promise<number> {
  return new Promise((resolve) => {
    const stream = session.request({ ':method': method, ':path': path, ...headers });
    let status = 0;
    stream
      .on('response', (answer) => {
        status = answer[':status'] ?? 0;
      })
      .on('close', () => resolve(status))
      .on('error', () => {})
      .resume()
      .end();
  });
}
