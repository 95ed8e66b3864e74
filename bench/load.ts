import { once } from 'node:events';
import { connect as connectHttp2, type ClientHttp2Session } from 'node:http2';
import { connect as connectTls } from 'node:tls';
import { setImmediate as nextTurn } from 'node:timers/promises';

/** Asks for one request again and again, over every connection to a port, as soon as each answer is in. */
export type Order = {
  /** The name that its certificate and `host` say; the connection goes to 127.0.0.1. Default: `localhost`. */
  readonly host?: string | undefined;
  readonly port: number;
  readonly over: 'HTTP/1.1' | 'HTTP/2';
  readonly ca: string;
  readonly method: string;
  readonly path: string;
  readonly headers: Readonly<Record<string, string>>;
  /** Sent as `authorization`, beside the headers. */
  readonly bearers?: Bearers | undefined;
  /** With 0 nothing is asked, only the connections are made ready: what that costs is no request's. */
  readonly forMs: number;
  /** Fewer requests than the time would allow. */
  readonly atMost?: number | undefined;
};

/**
 * `in turn`: each request takes the next token, and after the last the first again. `once`: the order ends with the last.
 * `renew`: each connection has refresh tokens of its own, in turn, and goes on with what it is given for each; those without one rest.
 */
export type Bearers = { readonly tokens: readonly string[]; readonly taken: 'in turn' | 'once' | 'renew' };

export type Done = {
  readonly completed: number;
  readonly tookMs: number;
  /** Of each answer, in the order of size. */
  readonly p50Ms: number;
  readonly p99Ms: number;
  readonly statuses: readonly number[];
  /** What `renew` was given: all access tokens, and the refresh tokens that are good now. */
  readonly given: { readonly access: readonly string[]; readonly refresh: readonly string[] };
};

/** What came once its last byte was in; status 0 where nothing did. The text is that of HTTP/1.1 alone. */
type Answer = { readonly status: number; readonly text: string };
/** One request at a time. */
type Line = { isOpen(): boolean; close(): void; ask(order: Order, bearer: string | undefined): Promise<Answer> };

/** With HTTP/2, four streams on each of eight connections. */
const LINES = 32;
const STREAMS = 4;

/** Kept between orders: handshakes are not what is measured. */
const kept = new Map<string, { readonly lines: Line[]; readonly since: number }>();
/** Before a server ends them in the middle of an order, because they have rested too much. */
const KEPT_MS = 20_000;

process.on('message', (order: Order) => void load(order).then((done) => process.send?.(done)));
for (const gone of ['disconnect', 'error']) process.once(gone, () => process.exit()); // who started it

async function load(order: Order): Promise<Done> {
  const lines = await linesTo(order);
  const { tokens = [], taken } = order.bearers ?? {};
  const most = Math.min(order.atMost ?? Infinity, taken === 'once' ? tokens.length : Infinity);
  const owned = taken === 'renew' ? [...tokens] : [];
  const access: string[] = [];
  const took: number[] = [];
  const statuses = new Set<number>();
  let asked = 0;
  const began = performance.now();
  // Stays awake: on loopback the kernel charges the waking of a sleeper to whoever sends to it, and the faster of two servers would never pay.
  let working = true;
  (function stayAwake() {
    if (working) setImmediate(stayAwake);
  })();
  await Promise.all(
    lines.slice(0, taken === 'renew' ? tokens.length : lines.length).map(async (line, first) => {
      let own = first;
      for (let at = began; at < began + order.forMs && asked < most;) {
        const nth = asked++;
        const { status, text } = await line.ask(order, taken === 'renew' ? owned[own] : tokens[nth % tokens.length]);
        const now = performance.now();
        statuses.add(status);
        took.push(now - at);
        at = now;
        if (taken !== 'renew' || status !== 200) continue;
        const given = JSON.parse(text.slice(text.indexOf('\r\n\r\n'))) as { access_token: string; refresh_token: string };
        access.push(given.access_token);
        owned[own] = given.refresh_token;
        own = own + lines.length < owned.length ? own + lines.length : first;
      }
    }),
  );
  working = false;
  const tookMs = performance.now() - began;
  took.sort((a, b) => a - b);
  const part = (share: number) => took[Math.floor(took.length * share)] ?? NaN;
  return {
    completed: took.length,
    tookMs,
    p50Ms: part(0.5),
    p99Ms: part(0.99),
    statuses: [...statuses],
    given: { access, refresh: owned },
  };
}

/** Old ones, and those that a server has closed as they rested, are opened anew. */
async function linesTo(order: Order): Promise<Line[]> {
  const place = `${order.over} ${order.host ?? ''} ${order.port}`;
  await nextTurn(); // so that what has closed is known
  const known = kept.get(place);
  const isFresh = known && performance.now() - known.since < KEPT_MS && known.lines.every((line) => line.isOpen());
  if (known && (isFresh || order.forMs > 0)) return known.lines;
  for (const line of known?.lines ?? []) line.close();
  const lines = await (order.over === 'HTTP/1.1' ? http1Lines(order) : http2Lines(order));
  kept.set(place, { lines, since: performance.now() });
  return lines;
}

function http1Lines({ host = 'localhost', port, ca }: Order): Promise<Line[]> {
  return Promise.all(
    Array.from({ length: LINES }, async () => {
      const socket = connectTls({
        host: '127.0.0.1',
        port,
        ca,
        servername: host,
        minVersion: 'TLSv1.3',
        ALPNProtocols: ['http/1.1'],
      });
      await once(socket, 'secureConnect');
      socket.setEncoding('latin1').setNoDelay();
      let received = '';
      let answered: (answer: Answer) => void = () => {};
      socket.on('data', (text: string) => {
        received += text;
        if (!isWhole(received)) return;
        const whole = received;
        received = '';
        answered({ status: Number(whole.slice(9, 12)), text: whole }); // HTTP/1.1 200
      });
      socket.on('error', () => {});
      socket.on('close', () => answered({ status: 0, text: '' }));
      return {
        isOpen: () => !socket.destroyed && !socket.readableEnded,
        close: () => socket.destroy(),
        ask: (order, bearer) =>
          new Promise((resolve) => {
            answered = resolve;
            if (!socket.write(textOf(order, bearer), 'latin1') && socket.destroyed) resolve({ status: 0, text: '' });
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

const requests = new WeakMap<Order, string>();

function textOf(order: Order, bearer: string | undefined): string {
  let head = requests.get(order);
  if (head === undefined) {
    const fields = Object.entries({ host: `${order.host ?? 'localhost'}:${order.port}`, ...order.headers });
    head = `${order.method} ${order.path} HTTP/1.1\r\n${fields.map(([name, value]) => `${name}: ${value}\r\n`).join('')}`;
    requests.set(order, head);
  }
  return bearer === undefined ? `${head}\r\n` : `${head}authorization: Bearer ${bearer}\r\n\r\n`;
}

async function http2Lines({ host = 'localhost', port, ca }: Order): Promise<Line[]> {
  const sessions = await Promise.all(
    Array.from({ length: LINES / STREAMS }, async () => {
      const session = connectHttp2(`https://${host}:${port}`, { host: '127.0.0.1', ca, minVersion: 'TLSv1.3' });
      await once(session, 'remoteSettings');
      return session;
    }),
  );
  return sessions.flatMap((session) =>
    Array.from(
      { length: STREAMS },
      () =>
        ({
          isOpen: () => !session.closed && !session.destroyed,
          close: () => session.destroy(),
          ask: (order, bearer) => askOver(session, order, bearer),
        }) satisfies Line,
    ),
  );
}

function askOver(session: ClientHttp2Session, { method, path, headers }: Order, bearer: string | undefined): Promise<Answer> {
  return new Promise((resolve) => {
    const authorization = bearer !== undefined && { authorization: `Bearer ${bearer}` };
    const stream = session.request({ ':method': method, ':path': path, ...headers, ...authorization });
    let status = 0;
    stream
      .on('response', (answer) => {
        status = answer[':status'] ?? 0;
      })
      .on('close', () => resolve({ status, text: '' }))
      .on('error', () => {})
      .resume()
      .end();
  });
}
