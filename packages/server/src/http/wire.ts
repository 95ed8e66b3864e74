import { constants } from 'node:crypto';
import { once } from 'node:events';
import type { IncomingMessage, RequestListener, Server, ServerResponse } from 'node:http';
import type { Http2ServerRequest, Http2ServerResponse } from 'node:http2';
import { type AddressInfo, createServer, type Socket } from 'node:net';
import { setImmediate } from 'node:timers/promises';
import tls from 'node:tls';
import type { ClientAddress, Clock } from '@portcullis/guard';
import { createServer as createHttpServer } from '../lib/node-http.ts';
import { type ClientAuth, type ClientFault, clientOf, faultInHandshake } from './wire/client-auth.ts';
import { type Connection, type Connections, held, makeConnections, type Phase } from './wire/connections.ts';
import { http1 } from './wire/http1.ts';
import { http2 } from './wire/http2.ts';
import { readProxyHeader } from './wire/proxy-protocol.ts';
import { asText, type WireAnswer } from './wire/refusal.ts';

/** What is refused before Fastify sees it. */
export type WireProblemCode =
  | 'https_required'
  | 'proxy_header_invalid'
  | 'request_malformed'
  | 'headers_too_large'
  | 'request_timeout'
  | 'expectation_failed'
  | 'method_not_allowed';

/** When a server ends, what is in flight may take so long. */
export const IN_FLIGHT_MS = 10_000;

export type WireTimes = typeof usualTimes;

const usualTimes = {
  /** From accept to the end of the TLS handshake. */
  handshakeMs: 10_000,
  /** From there, or from a further request's first byte, to the end of its headers. */
  headersMs: 10_000,
  /** From a request's first byte to its body's last. */
  requestMs: 30_000,
  /** A connection without a request. */
  idleMs: 60_000,
  /** A peer that does not read its answer. */
  answerMs: 30_000,
  /** A connection that has been told to go, and idle ones while closing. */
  lingerMs: 1_000,
  /** How often the others are looked at: each is kept, up to so much early. */
  checkMs: 1_000,
};

export type WireOptions = {
  /** `at-proxy`: plain HTTP/1.1, from declared proxies; that it comes from them is checked elsewhere. */
  tls: Certificate | 'at-proxy';
  /** Default: `none`. The others need a certificate with a `clientCa`. */
  clientAuth?: ClientAuth;
  /** Told of a client that was let go in its handshake, where there is nothing to answer. */
  clientRefused?: (fault: ClientFault, from: ClientAddress | undefined) => void;
  clock: Clock;
  maxConnections: number;
  /** Of one IPv4 address or IPv6 prefix. Not for those that `isProxy` knows. */
  maxConnectionsPerAddress: number;
  isProxy: (address: string) => boolean;
  /** Each connection of a proxy begins with a PROXY header, and is whose that names. */
  proxyProtocol?: boolean;
  /** Default: 64. */
  ipv6Prefix?: number;
  /** Notes what is refused here, and makes the answer to it, with a fresh instance id. */
  refusal: (code: WireProblemCode, overTls: boolean, from: ClientAddress | undefined, reason?: string) => WireAnswer;
  times?: Partial<WireTimes>;
};

/** PEM. `clientCa`: the roots, and what is between, of the certificates that clients may have. */
export type Certificate = { readonly cert: string; readonly key: string; readonly clientCa?: string };

export type Wire = {
  /** For Fastify's option of that name. What Fastify gets to hold never listens; `listen` below does. */
  serverFactory(handler: RequestListener): Server;
  /**
   * Rejects with the system's error, such as EADDRINUSE. `shared`: with other processes that ask for it so, among whom the
   * kernel deals out new connections (SO_REUSEPORT).
   */
  listen(host: string, port: number, how?: 'shared'): Promise<AddressInfo>;
  /**
   * New connections get it. Throws what OpenSSL says of an unusable one, and keeps the old. With another `clientCa`, clients
   * that had shown a certificate are asked for it anew: their connections end with the next answer, soon in any case.
   */
  setCertificate(certificate: Certificate): void;
  /** Each answer from now on ends its connection (HTTP/2: GOAWAY). New connections are still taken. */
  drain(): void;
  /** Takes no further connection and lets what is in flight end, for at most `graceMs`. */
  close(graceMs: number): Promise<void>;
  connections(): number;
  counts(): WireCounts;
};

export type WireCounts = {
  /** Those that are open, by what they are at. */
  readonly open: Readonly<Record<Phase['is'], number>>;
  /** Since the start. */
  readonly accepted: number;
  readonly evicted: Connections['evicted'];
};

/** What both protocols need of the wire. */
export type Shared = Pick<WireOptions, 'clock' | 'refusal'> & {
  connections: Connections;
  times: WireTimes;
  state: { draining: boolean };
  handle(request: IncomingMessage | Http2ServerRequest, response: ServerResponse | Http2ServerResponse): void;
};

/**
 * Gate 1: TLS, HTTP/1.1 and HTTP/2 on one port. A TCP server accepts, counts, and looks at the first byte; Node's TLS,
 * HTTP/1.1 and HTTP/2 servers never listen and are fed by it. What they do only while listening (HTTP/1.1's time-outs)
 * is started here; what they do not do at all (bounds for HTTP/2, a handshake that trickles) is checked here.
 */
export function makeWire(options: WireOptions): Wire {
  const { clock, refusal, isProxy, clientAuth = 'none', clientRefused = () => {} } = options;
  const times = { ...usualTimes, ...options.times };
  const state = { draining: false };
  const connections = makeConnections({
    max: options.maxConnections,
    maxPerAddress: options.maxConnectionsPerAddress,
    isProxy,
    ipv6Prefix: options.ipv6Prefix,
    times,
    clock,
  });
  let handler: RequestListener = () => {
    throw new Error('serverFactory has not been called');
  };
  const shared: Shared = {
    clock,
    refusal,
    connections,
    times,
    state,
    // Node's HTTP/2 compatibility objects are made to pass for these, and Fastify takes them so.
    handle: (request, response) => handler(request as IncomingMessage, response as ServerResponse & { req: IncomingMessage }),
  };
  const one = http1(shared);
  const two = http2(shared);

  /** Handshakes under way, found again by what makes a connection unique. */
  const opening = new Map<string, Connection>();
  let certificate = options.tls === 'at-proxy' ? undefined : options.tls;
  const secure = certificate && tls.createServer(tlsOptions(certificate, clientAuth));
  secure?.on('tlsClientError', (error, socket) => {
    const fault = faultInHandshake(error, socket);
    if (fault) clientRefused(fault, fromBelow(socket));
    socket.destroy();
  });
  secure?.on('secureConnection', (socket) => {
    const connection = opening.get(endpoints(socket));
    if (!connection || connection.socket.destroyed) return void socket.destroy();
    // A handshake that began before the authority was changed has believed the one of before.
    if (connection.clientCa !== certificate?.clientCa) return connections.end(connection);
    connection.encrypted = true;
    const client = clientOf(socket, clientAuth);
    if ('fault' in client) {
      clientRefused(client.fault, connection.from);
      return connections.end(connection);
    }
    if (client.certificate) [connection.client, connection.dueAt] = [client.certificate, client.certificate.validToDate.getTime()];
    (socket.alpnProtocol === 'h2' ? two : one).take(connection, socket);
  });

  const front = createServer({ noDelay: true }, accept);
  let accepted = 0;
  let checks: NodeJS.Timeout | undefined;
  let closing = false;

  return {
    serverFactory(given) {
      handler = given;
      return createHttpServer();
    },

    async listen(host, port, how) {
      front.listen({ host, port, reusePort: how === 'shared' });
      await once(front, 'listening');
      front.on('error', () => {}); // a failed accept (out of files, say) is the peer's loss, not the end of the process
      one.server.emit('listening'); // starts its time-outs
      checks = setInterval(check, times.checkMs).unref();
      return front.address() as AddressInfo; // a TCP server's, not a pipe's
    },

    setCertificate(next) {
      if (!secure) return;
      secure.setSecureContext(tlsOptions(next, clientAuth));
      if (next.clientCa !== certificate?.clientCa) askAnew();
      certificate = next;
    },

    drain,

    async close(graceMs) {
      drain();
      await takeQueued();
      front.close();
      const lingerMs = Math.min(times.lingerMs, graceMs);
      await connections.empty(lingerMs); // what is idle may have a request on its way
      closing = true;
      finish();
      await connections.empty(graceMs - lingerMs);
      for (const connection of connections.all) connections.end(connection);
      clearInterval(checks);
      one.server.close();
    },

    connections: () => connections.all.size,

    counts() {
      const open = { opening: 0, http1: 0, http2: 0, leaving: 0 };
      for (const { phase } of connections.all) open[phase.is] += 1;
      return { open, accepted, evicted: connections.evicted };
    },
  };

  function accept(socket: Socket): void {
    socket.on('error', () => {}); // a reset is the peer's business
    const { remoteAddress } = socket;
    if (remoteAddress === undefined) return void socket.destroy(); // gone already
    const connection = connections.add(socket, remoteAddress);
    accepted++;
    if (options.proxyProtocol && isProxy(connection.from.address)) awaitProxyHeader(connection);
    else open(connection);
  }

  /** What comes before it is nobody's word: a connection without a good header, all of it in time, is closed without an answer. */
  function awaitProxyHeader(connection: Connection): void {
    const { socket, phase } = connection;
    let bytes: Buffer = Buffer.alloc(0);
    const refuse = (why: string): void => {
      stop();
      refusal('proxy_header_invalid', false, connection.from, why);
      connections.end(connection);
    };
    const onEnd = (): void => (bytes.length > 0 ? refuse('PROXY header: it broke off') : stop()); // a balancer may only knock
    const look = (): void => {
      for (let chunk: Buffer | null = socket.read(); chunk; chunk = socket.read()) bytes = Buffer.concat([bytes, chunk]);
      const header = bytes.length > 0 ? readProxyHeader(bytes) : 'more';
      if (header === 'more') return;
      if ('wrong' in header) return refuse(header.wrong);
      stop();
      connection.encrypted = header.encrypted;
      if (header.address !== undefined) connections.rename(connection, header.address);
      open(connection, bytes.subarray(header.length));
    };
    const stop = (): void => {
      socket.off('readable', look).off('end', onEnd);
      connection.phase = phase;
    };
    socket.on('readable', look).on('end', onEnd);
    connection.phase = connections.opening(socket, () => refuse('PROXY header: not complete in time'));
  }

  /** @param first what has come of it already. */
  function open(connection: Connection, first: Buffer = Buffer.alloc(0)): void {
    const { socket } = connection;
    if (!secure) {
      if (first.length > 0) socket.unshift(first);
      one.take(connection, socket);
    } else if (first.length > 0) openSecure(connection, secure, first);
    else
      socket.once('readable', () => {
        const start: Buffer | null = socket.read();
        if (start) openSecure(connection, secure, start); // else it ended without a byte
      });
  }

  function openSecure(connection: Connection, server: tls.Server, start: Buffer): void {
    const { socket } = connection;
    if (start[0] === TLS_HANDSHAKE) {
      const key = endpoints(socket);
      opening.set(key, connection);
      connection.clientCa = certificate?.clientCa;
      socket.once('close', () => {
        if (opening.get(key) === connection) opening.delete(key);
      });
      socket.unshift(start);
      server.emit('connection', socket);
    } else if (isLetter(start[0])) {
      connections.leave(connection);
      socket.end(asText(refusal('https_required', false, connection.from), clock.now()));
      socket.resume();
    } else {
      connections.end(connection);
    }
  }

  function check(): void {
    const by = clock.now() + times.checkMs;
    for (const connection of connections.all) {
      if (connection.dueAt !== undefined && by >= connection.dueAt - times.requestMs) endInTime(connection, connection.dueAt, by);
      connection.phase.check(by);
    }
    if (closing) finish();
  }

  /** A connection does not outlive the certificate that opened it; before that, it is told to go. */
  function endInTime(connection: Connection, dueAt: number, by: number): void {
    if (by >= dueAt) return connections.end(connection);
    connection.isLast = true;
    connection.phase.drain();
  }

  function askAnew(): void {
    const now = clock.now();
    for (const connection of connections.all) {
      if (!connection.client) continue;
      connection.dueAt = Math.min(connection.dueAt ?? Infinity, now + times.requestMs);
      endInTime(connection, connection.dueAt, now);
    }
  }

  function drain(): void {
    if (state.draining) return;
    state.draining = true;
    for (const { phase } of connections.all) phase.drain();
  }

  function finish(): void {
    for (const { phase } of connections.all) phase.finish();
    one.server.closeIdleConnections();
  }

  /**
   * What the kernel has accepted and we have not would be reset with the listener. A turn of the event loop takes one of
   * them, and under load there is always one more: hence the bound.
   */
  async function takeQueued(): Promise<void> {
    const until = clock.now() + TAKE_QUEUED_MS;
    for (let quietTurns = 0; quietTurns < 2 && clock.now() < until;) {
      const before = accepted;
      await setImmediate();
      quietTurns = accepted === before ? quietTurns + 1 : 0;
    }
  }
}

const TAKE_QUEUED_MS = 80;

/** The first byte of every TLS connection: a record of type handshake (RFC 8446 section 5.1). */
const TLS_HANDSHAKE = 0x16;

const isLetter = (byte = 0): boolean => /[A-Za-z]/.test(String.fromCharCode(byte));

/** TLS 1.3, and of 1.2 only forward-secret AEAD suites (RFC 9325 section 4.2). */
const tlsSettings = {
  minVersion: 'TLSv1.2',
  ciphers: [
    'TLS_AES_128_GCM_SHA256',
    'TLS_AES_256_GCM_SHA384',
    'TLS_CHACHA20_POLY1305_SHA256',
    'ECDHE-ECDSA-AES128-GCM-SHA256',
    'ECDHE-RSA-AES128-GCM-SHA256',
    'ECDHE-ECDSA-AES256-GCM-SHA384',
    'ECDHE-RSA-AES256-GCM-SHA384',
    'ECDHE-ECDSA-CHACHA20-POLY1305',
    'ECDHE-RSA-CHACHA20-POLY1305',
  ].join(':'),
  secureOptions: constants.SSL_OP_NO_RENEGOTIATION,
  ALPNProtocols: ['h2', 'http/1.1'],
} as const;

/**
 * Without resumption where clients show certificates: a ticket would carry one past its own end, or past its CA's.
 * `ca` must not be left out then: Node would trust every public authority instead.
 */
function tlsOptions({ cert, key, clientCa }: Certificate, clientAuth: ClientAuth) {
  if (clientAuth === 'none') return { ...tlsSettings, cert, key };
  if (clientCa === undefined) throw new Error('clients cannot be asked for certificates without their CA');
  return {
    ...tlsSettings,
    secureOptions: tlsSettings.secureOptions | constants.SSL_OP_NO_TICKET,
    cert,
    key,
    ca: clientCa,
    requestCert: true,
    rejectUnauthorized: clientAuth === 'required',
  };
}

/** No two connections that are open at once share these. */
const endpoints = (socket: Socket): string => `${socket.remoteAddress} ${socket.remotePort} ${socket.localAddress}`;

/** Of a socket that Node has destroyed already, and with it its address. `_parent` is Node's own; without it, the log has no address. */
const fromBelow = (socket: tls.TLSSocket & { _parent?: Socket }): ClientAddress | undefined => socket._parent?.[held]?.from;
