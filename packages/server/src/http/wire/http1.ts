import { createServer, type Server, type ServerResponse } from 'node:http';
import type { Socket } from 'node:net';
import { type Connection, held, type Phase, slowReader } from './connections.ts';
import type { Shared, WireProblemCode } from '../wire.ts';
import { asText, overTls } from './refusal.ts';

/** The HTTP/1.1 side: Node's server, fed with sockets, with our words for what it would answer itself. */
export function http1({ connections, handle, refusal, clock, times, state }: Shared): {
  server: Server;
  take(connection: Connection, socket: Socket): void;
} {
  const server = createServer({
    insecureHTTPParser: false, // whatever the command line says
    maxHeaderSize: 16 * 1024,
    requireHostHeader: false, // the guard looks at Host
    headersTimeout: Math.max(1, times.headersMs - times.checkMs),
    requestTimeout: Math.max(1, times.requestMs - times.checkMs),
    connectionsCheckingInterval: times.checkMs,
    keepAliveTimeout: 0, // the check ends what is idle; Node would move a timer twice for each request
  });
  server.maxHeadersCount = 0; // else Node silently drops headers beyond the 1,000th; the 16 KiB bound them

  server.on('request', (request, response) => {
    const connection = request.socket[held];
    if (!connection) return; // never: only `take` gives the server sockets
    if (state.draining) sayLast(response, connection.response);
    connection.response = response;
    connections.touch(connection);
    handle(request, response);
  });

  server.on('checkExpectation', (request, response) => {
    const { status, headers, body } = refusal('expectation_failed', overTls(request.socket));
    // Whether the body comes after such a refusal is the client's choice: only an end of the connection is unambiguous.
    response.writeHead(status, { ...headers, 'content-length': Buffer.byteLength(body), connection: 'close' }).end(body);
  });

  server.on('connect', ({ socket }) => {
    const connection = socket[held];
    if (!connection || isBusy(connection)) socket.destroy();
    else leave(connection, socket, 'method_not_allowed');
  });

  const failed = new WeakSet<Connection>();
  server.on('clientError', (error: NodeJS.ErrnoException, socket: Socket) => {
    const connection = socket[held];
    const code = problemOf(error);
    if (!connection || !code || !socket.writable) return void socket.destroy();
    if (failed.has(connection)) return;
    failed.add(connection);
    ignoreInput(socket);

    const { response } = connection;
    if (!response || response.req.complete) {
      // Nothing handed on is concerned: answers still under way go first, or this one would be taken for one of them.
      if (isBusy(connection)) response?.once('close', () => leave(connection, socket, code));
      else leave(connection, socket, code);
      return;
    }
    // The body of the request that came last: it has been answered, is being answered, or is not yet its turn.
    const isMute = response.headersSent || !response.socket;
    leave(connection, socket, isMute ? undefined : code);
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

  function leave(connection: Connection, socket: Socket, code: WireProblemCode | undefined): void {
    ignoreInput(socket);
    connections.leave(connection);
    if (code) socket.write(asText(refusal(code, overTls(socket)), clock.now()));
    socket.end();
  }

  function talking(connection: Connection, socket: Socket): Phase {
    const fresh = connection.socket.bytesRead;
    const isSlow = slowReader(connection.socket, times.answerMs);
    let read = fresh;
    let quietSince = clock.now();
    let worked = false;
    return {
      busy: () => isBusy(connection),
      check(by) {
        if (isSlow(socket.writableLength > 0, by)) return connections.end(connection);
        const busy = isBusy(connection);
        if (worked && !busy) connections.touch(connection); // idle from the end of its answer on, not from the request
        worked = busy;
        if (busy || connection.socket.bytesRead !== read) [read, quietSince] = [connection.socket.bytesRead, by];
        else if (by - quietSince >= times.idleMs) connections.end(connection);
      },
      drain() {
        if (connection.response && isBusy(connection)) sayLast(connection.response, undefined);
      },
      finish() {
        if (!connection.response && connection.socket.bytesRead === fresh) socket.destroy(); // the others' turn: `closeIdleConnections`
      },
    };
  }
}

/** A request is in flight until its answer has gone out and its body has come in. */
const isBusy = ({ response }: Connection): boolean => response !== undefined && !(response.writableFinished && response.req.complete);

/** Only the last of several pipelined answers may say `close`: those after it would be lost. */
function sayLast(response: ServerResponse, before: ServerResponse | undefined): void {
  if (before && !before.headersSent) before.removeHeader('connection');
  if (!response.headersSent) response.setHeader('connection', 'close');
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
