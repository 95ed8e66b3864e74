import type { IncomingMessage, Server, ServerResponse } from 'node:http';
import type { Socket } from 'node:net';
import { DressedResponse } from '@portcullis/guard';
import { createServer } from '../../lib/node-http.ts';
import type { Shared, WireProblemCode } from '../wire.ts';
import { type Connection, held, type Phase, slowReader } from './connections.ts';
import { asText, overTls } from './refusal.ts';

/** The HTTP/1.1 side: Node's server, fed with sockets, with our words for what it would answer itself. */
export function http1({ connections, handle, refusal, clock, times, state }: Shared): {
  server: Server;
  take(connection: Connection, socket: Socket): void;
} {
  const server = createServer({
    ServerResponse: DressedResponse,
    insecureHTTPParser: false, // whatever the command line says
    maxHeaderSize: 16 * 1024,
    requireHostHeader: false, // the guard looks at Host
    headersTimeout: Math.max(1, times.headersMs - times.checkMs),
    requestTimeout: Math.max(1, times.requestMs - times.checkMs),
    connectionsCheckingInterval: times.checkMs,
    keepAliveTimeout: 0, // the check ends what is idle; Node would move a timer twice for each request
    shouldUpgradeCallback({ socket }) {
      upgrading.add(socket);
      return false;
    },
  });
  server.maxHeadersCount = 0; // else Node silently drops headers beyond the 1,000th; the 16 KiB bound them

  /** An upgrade that is passed over makes Node lose what came with it: its answer must be the connection's last. */
  const upgrading = new WeakSet<Socket>();
  /** A failure is told once, though Node may find it again. */
  const failed = new WeakSet<Socket>();

  server.on('request', (request, response) => {
    if (next(request, response)) handle(request, response);
  });

  server.on('checkExpectation', (request, response) => {
    if (!next(request, response)) return;
    const { status, headers, body } = refusal('expectation_failed', overTls(request.socket), request.socket[held]?.from);
    response.shouldKeepAlive = false; // whether the body comes after such a refusal is the client's choice
    response.writeHead(status, { ...headers, 'content-length': Buffer.byteLength(body) }).end(body);
  });

  server.on('connect', ({ socket }) => {
    const connection = socket[held];
    if (!connection || isBusy(connection)) socket.destroy();
    else leave(connection, socket, 'method_not_allowed');
  });

  server.on('clientError', (error: NodeJS.ErrnoException, socket: Socket) => {
    const connection = socket[held];
    if (!connection || failed.has(socket)) return;
    failed.add(socket);
    const code = problemOf(error);
    const { response } = connection;
    if (!code || !socket.writable) socket.destroy();
    else if (!response || response.req.complete) refuseNext(connection, socket, code);
    // It is the body of the last request that failed: that has its answer, or is not yet due for one, or gets this one.
    else leave(connection, socket, response.headersSent || !response.socket ? undefined : code);
  });

  return {
    server,
    take(connection, socket) {
      socket[held] = connection;
      socket.on('error', () => {}); // Node takes its own listener away at times
      connection.phase = talking(connection, socket);
      server.emit('connection', socket);
    },
  };

  /** Notes a request. Says whether it is to be handled: nothing is, after an answer that ends the connection (RFC 9112 section 9.6). */
  function next({ socket, httpVersionMajor }: IncomingMessage, response: ServerResponse): boolean {
    const connection = socket[held];
    const before = connection?.response;
    if (!connection || (before?.headersSent && !before.shouldKeepAlive)) return false;
    if (httpVersionMajor !== 1) {
      // the parser knows 0.9 and 2.0
      refuseNext(connection, socket, 'request_malformed');
      return false;
    }
    if (state.draining || connection.isLast || upgrading.has(socket)) sayLast(response, before);
    connection.response = response;
    connections.touch(connection);
    return true;
  }

  /** Refuses what no handler has seen. Answers still under way go first, or this one would be taken for one of them. */
  function refuseNext(connection: Connection, socket: Socket, code: WireProblemCode): void {
    ignoreInput(socket);
    if (isBusy(connection)) connection.response?.once('close', () => leave(connection, socket, code));
    else leave(connection, socket, code);
  }

  function leave(connection: Connection, socket: Socket, code: WireProblemCode | undefined): void {
    ignoreInput(socket);
    connections.leave(connection);
    if (code && socket.writable) socket.write(asText(refusal(code, overTls(socket), connection.from), clock.now()));
    socket.end();
  }

  function talking(connection: Connection, socket: Socket): Phase {
    const { socket: tcp } = connection;
    const isSlow = slowReader(times.answerMs);
    let read = tcp.bytesRead;
    let quietSince = clock.now();
    let asked = connection.response;
    let worked = false;
    let stirred = false;
    return {
      is: 'http1',
      busy: () => isBusy(connection),
      check(by) {
        if (isSlow(by, socket.writableLength, socket.bytesWritten - socket.writableLength)) return connections.end(connection);
        const busy = isBusy(connection);
        if (worked && !busy) connections.touch(connection); // idle from the end of its answer on, not from the request
        worked = busy;
        const stirs = tcp.bytesRead !== read;
        read = tcp.bytesRead;
        const spoke = connection.response !== asked; // also where no check has seen the request under way
        asked = connection.response;
        if (busy || spoke) [quietSince, stirred] = [by, false];
        else if (stirs && !stirred) {
          // A request may begin to arrive, and has its time for headers; bytes that become none (blank lines) gain no more.
          [quietSince, stirred] = [Math.max(quietSince, by - times.idleMs + times.headersMs), true];
        } else if (by - quietSince >= times.idleMs) connections.end(connection);
      },
      drain() {
        // An answer whose headers are out has promised that the connection stays: the next one ends it.
        const { response } = connection;
        if (response && !response.headersSent && isBusy(connection)) sayLast(response, undefined);
      },
      finish() {}, // Node's `closeIdleConnections` knows where a request has begun to arrive
    };
  }
}

/** A request is in flight until its answer has gone out and its body has come in. */
const isBusy = ({ response }: Connection): boolean => response !== undefined && !(response.writableFinished && response.req.complete);

/** Of several pipelined answers only the last may end the connection: those after it would be lost. */
function sayLast(response: ServerResponse, before: ServerResponse | undefined): void {
  if (before && !before.headersSent) before.shouldKeepAlive = true;
  response.shouldKeepAlive = false; // Node says so in the headers, if they are still to be sent
}

/** From here on the parser sees nothing, so nothing that was refused is handled after all; the peer may finish sending. */
function ignoreInput(socket: Socket): void {
  socket.removeAllListeners('data');
  socket.on('data', () => {});
  socket.resume();
}

function problemOf({ code = '' }: NodeJS.ErrnoException): WireProblemCode | undefined {
  if (code === 'ERR_HTTP_REQUEST_TIMEOUT') return 'request_timeout';
  if (code === 'HPE_HEADER_OVERFLOW') return 'headers_too_large';
  return code.startsWith('HPE_') ? 'request_malformed' : undefined;
}
