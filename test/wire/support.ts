import { once } from 'node:events';
import http2, { type ClientHttp2Session, type IncomingHttpHeaders } from 'node:http2';
import net from 'node:net';
import type { TestContext } from 'node:test';
import tls, { type TLSSocket } from 'node:tls';
import type { RequestListener } from 'node:http';
import 'reflect-metadata'; // the next needs it
import * as x509 from '@peculiar/x509';
import { guardProblems, problemBody, securityHeaders, systemClock } from '@portcullis/guard';
import { makeWire, type Wire, type WireOptions } from '../../packages/server/src/http/wire.ts';

/** A certificate for localhost that nobody trusts. */
export async function makeCertificate(name = 'localhost'): Promise<{ cert: string; key: string }> {
  const keys = await crypto.subtle.generateKey({ name: 'ECDSA', namedCurve: 'P-256' }, true, ['sign', 'verify']);
  const certificate = await x509.X509CertificateGenerator.createSelfSigned({
    name: `CN=${name}`,
    keys,
    signingAlgorithm: { name: 'ECDSA', hash: 'SHA-256' },
  });
  const key = await crypto.subtle.exportKey('pkcs8', keys.privateKey);
  return { cert: certificate.toString('pem'), key: x509.PemConverter.encode(key, 'PRIVATE KEY') };
}

export const certificate = await makeCertificate();

const never = 600_000;

export type Running = {
  wire: Wire;
  port: number;
  /** `METHOD path body`, of each request that reached the handler whole. */
  handled: string[];
};

/** A wire with no bound but those that the test sets; nobody answers yet. */
export const makeTestWire = (options: Partial<WireOptions> = {}): Wire =>
  makeWire({
    tls: certificate,
    clock: systemClock(),
    maxConnections: 1_000,
    maxConnectionsPerAddress: 1_000,
    isProxy: () => false,
    refusal: (code, overTls) => ({
      status: guardProblems[code].status,
      reason: guardProblems[code].title,
      headers: { ...securityHeaders(overTls), 'content-type': 'application/problem+json; charset=utf-8' },
      body: JSON.stringify(problemBody(code, guardProblems[code], `urn:uuid:${crypto.randomUUID()}`)),
    }),
    ...options,
    times: {
      handshakeMs: never,
      headersMs: never,
      requestMs: never,
      idleMs: never,
      answerMs: never,
      lingerMs: 300,
      checkMs: 20,
      ...options.times,
    },
  });

/** A listening wire whose answer repeats what was asked, unless told otherwise. It ends with the test. */
export async function start(t: TestContext, options: Partial<WireOptions> = {}, handler?: RequestListener): Promise<Running> {
  const handled: string[] = [];
  const wire = makeTestWire(options);
  wire.serverFactory(
    handler ??
      ((request, response) => {
        let body = '';
        request.setEncoding('utf8').on('error', () => {});
        request.on('data', (text: string) => {
          body += text;
        });
        request.on('end', () => {
          const asked = `${request.method} ${request.url} ${body}`.trim();
          handled.push(asked);
          response.end(asked);
        });
      }),
  );
  const { port } = await wire.listen('127.0.0.1', 0);
  t.after(() => wire.close(0));
  return { wire, port, handled };
}

/** The source address. */
type From = { localAddress?: string };

/** Plain TCP; what comes is collected in `seen`. */
export async function openTcp(port: number, localAddress?: string): Promise<Seen<net.Socket>> {
  const socket = net.connect({ host: '127.0.0.1', port, ...(localAddress && { localAddress }) });
  await once(socket, 'connect');
  return seeing(socket);
}

export async function openTls(
  port: number,
  { localAddress, ...options }: tls.ConnectionOptions & From = {},
): Promise<Seen<TLSSocket> & { tcp: net.Socket }> {
  const { socket: tcp } = await openTcp(port, localAddress);
  tcp.removeAllListeners('data');
  const socket = tls.connect({ socket: tcp, host: '127.0.0.1', port, rejectUnauthorized: false, ALPNProtocols: ['http/1.1'], ...options });
  const seen = seeing(socket);
  const isOpen = await Promise.race([
    once(socket, 'secureConnect').then(
      () => true,
      () => false,
    ),
    seen.closed.then(() => false),
  ]);
  if (!isOpen) throw seen.error ?? new Error('closed');
  return Object.assign(seen, { tcp });
}

export type Seen<S extends net.Socket> = {
  socket: S;
  text(): string;
  closed: Promise<string>;
  error?: Error;
  until(part: string | RegExp): Promise<string>;
};

const clients = new Set<net.Socket>();

export function closeClients(): void {
  for (const client of clients) client.destroy();
  clients.clear();
}

function seeing<S extends net.Socket>(socket: S): Seen<S> {
  clients.add(socket);
  const chunks: Buffer[] = [];
  const text = () => Buffer.concat(chunks).toString('latin1');
  const seen: Seen<S> = {
    socket,
    text,
    closed: new Promise((resolve) => socket.once('close', () => resolve(text()))),
    async until(part) {
      while (!(typeof part === 'string' ? text().includes(part) : part.test(text()))) {
        if (socket.destroyed) throw new Error(`closed before ${part}: ${text().slice(0, 500)}`);
        await Promise.race([once(socket, 'data'), seen.closed]);
      }
      return text();
    },
  };
  socket
    .on('data', (chunk: Buffer) => chunks.push(chunk))
    .on('error', (error) => {
      seen.error = error;
    });
  return seen;
}

export const get = (path: string, more = ''): string => `GET ${path} HTTP/1.1\r\nHost: localhost\r\n${more}\r\n`;
export const post = (path: string, length: number, more = ''): string =>
  `POST ${path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: ${length}\r\n${more}\r\n`;

/** Sends a byte at a time for as long as it is let. */
export function trickle(socket: net.Socket, bytes: Iterable<number>, everyMs = 10): void {
  const each = bytes[Symbol.iterator]();
  const timer = setInterval(() => {
    const { done, value } = each.next();
    if (!done && socket.writable) socket.write(Buffer.of(value));
  }, everyMs);
  socket.once('close', () => clearInterval(timer));
}

export function* forever(byte: number): Generator<number> {
  for (;;) yield byte;
}

/** An HTTP/2 session by Node's own client. */
export async function openSession(
  t: TestContext,
  port: number,
  options: http2.SecureClientSessionOptions & From = {},
): Promise<ClientHttp2Session> {
  const session = http2.connect(`https://127.0.0.1:${port}`, { rejectUnauthorized: false, ...options });
  session.on('error', () => {});
  t.after(() => session.destroy());
  await once(session, 'remoteSettings');
  return session;
}

export type Answer = { status: number; headers: IncomingHttpHeaders; body: string; resetCode: number };

/** Asks over HTTP/2; status 0 is no answer. */
export function ask(session: ClientHttp2Session, headers: http2.OutgoingHttpHeaders = {}, body?: string): Promise<Answer> {
  const { promise, resolve } = Promise.withResolvers<Answer>();
  const stream = session.request({ ':path': '/', ...headers }, { endStream: body === undefined });
  const answer: Answer = { status: 0, headers: {}, body: '', resetCode: 0 };
  stream.on('response', (given) => {
    answer.headers = given;
    answer.status = given[':status'] ?? 0;
  });
  stream.setEncoding('utf8').on('data', (text: string) => {
    answer.body += text;
  });
  stream.on('error', () => {}).on('close', () => resolve({ ...answer, resetCode: stream.rstCode ?? 0 }));
  if (body !== undefined) stream.end(body);
  return promise;
}

/** HTTP/2 frames by hand (RFC 9113 section 4.1). */
export const frame = (type: number, flags: number, stream: number, payload: Uint8Array = Buffer.alloc(0)): Buffer => {
  const head = Buffer.alloc(9);
  head.writeUIntBE(payload.length, 0, 3);
  head.writeUInt8(type, 3);
  head.writeUInt8(flags, 4);
  head.writeUInt32BE(stream, 5);
  return Buffer.concat([head, payload]);
};
export const frames = { data: 0, headers: 1, reset: 3, settings: 4, ping: 6, goaway: 7, windowUpdate: 8, continuation: 9 } as const;
export const flags = { none: 0, endStream: 1, ack: 1, endHeaders: 4 } as const;
export const preface = Buffer.concat([Buffer.from('PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n'), frame(frames.settings, 0, 0)]);
/** HPACK of `GET https://localhost/`, or POST. */
export const requestBlock = (method: 'GET' | 'POST' = 'GET'): Buffer =>
  Buffer.from([method === 'GET' ? 0x82 : 0x83, 0x87, 0x84, 0x01, 9, ...Buffer.from('localhost')]);

export const openRawH2 = (port: number): ReturnType<typeof openTls> => openTls(port, { ALPNProtocols: ['h2'] });
