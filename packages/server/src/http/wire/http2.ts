import {
  constants,
  createServer,
  type Http2Server,
  type Http2ServerRequest,
  type Http2ServerResponse,
  type ServerHttp2Session,
  type ServerHttp2Stream,
} from 'node:http2';
import type { Socket } from 'node:net';
import { type Connection, held, patience, type Phase, slowReader } from './connections.ts';
import type { Shared, WireProblemCode } from '../wire.ts';

const MAX_HEADERS = 16 * 1024;

/** "No last stream yet": the first GOAWAY of a graceful end (RFC 9113 section 6.8). */
const NO_STREAM_YET = 2 ** 31 - 1;

/** The HTTP/2 side: Node's server, fed with TLS sockets that agreed on `h2`. */
export function http2({ connections, handle, refusal, clock, times, state }: Shared): {
  server: Http2Server;
  take(connection: Connection, socket: Socket): void;
} {
  const server = createServer({
    settings: { maxConcurrentStreams: 100, maxHeaderListSize: MAX_HEADERS, enablePush: false },
    maxSessionMemory: 4, // megabytes
    maxSessionInvalidFrames: 100,
    maxSessionRejectedStreams: 100,
    streamResetBurst: 200, // rapid reset (CVE-2023-44487): so many at once, then so many a second
    streamResetRate: 20,
  });
  /** For each stream with a body, what cuts that short. */
  const cuts = new WeakMap<ServerHttp2Stream, () => void>();

  server.on('session', (session) => {
    const connection = session.socket[held];
    if (connection) connection.phase = talking(connection, session);
  });
  server.on('request', (request, response) => {
    const { stream } = request;
    // Our settings bind a client from its acknowledgement on, and Node holds it to them only from then on.
    if (stream.session?.pendingSettingsAck && sizeOf(request.rawHeaders) > MAX_HEADERS) return answer(response, 'headers_too_large');
    if (!stream.endAfterHeaders) {
      cuts.set(stream, () => cutBody(request));
      stream.once('aborted', () => cutBody(request));
    }
    handle(request, response);
  });
  server.on('connect', (_, response) => answer(response, 'method_not_allowed'));
  server.on('checkExpectation', (_, response) => answer(response, 'expectation_failed'));

  return {
    server,
    take(connection, socket) {
      socket[held] = connection;
      server.emit('connection', socket);
    },
  };

  function answer(response: Http2ServerResponse, code: WireProblemCode): void {
    const { status, headers, body } = refusal(code, true, response.stream[held]?.from);
    response.writeHead(status, { ...headers, 'content-length': Buffer.byteLength(body) }).end(body);
  }

  function talking(connection: Connection, session: ServerHttp2Session): Phase {
    /** Each open stream, with when it began and, once its answer is complete, by when that must have been taken. */
    const streams = new Map<ServerHttp2Stream, { began: number; answerDue?: number }>();
    const isSlow = slowReader(times.answerMs);
    let quietSince = clock.now();
    /** The first bytes that came while no stream was open: the headers that they begin are due. At first, the handshake's end. */
    let stirredAt: number | undefined = quietSince;
    let read = 0;
    /** When the client was told to open no further stream. */
    let toldAt: number | undefined;

    // Before the server's own listener, which may answer at once.
    session.prependListener('stream', (stream: ServerHttp2Stream) => {
      stream[held] = connection;
      streams.set(stream, { began: clock.now() });
      connections.touch(connection);
      stream.once('close', () => {
        streams.delete(stream);
        connections.touch(connection);
        [quietSince, stirredAt, read] = [clock.now(), undefined, 0];
      });
      if (state.draining) drain();
    });

    return {
      is: 'http2',
      busy: () => streams.size > 0,
      check(by) {
        let waiting = 0;
        for (const [stream, its] of streams) {
          checkStream(stream, its, by);
          waiting += stream.bufferSize;
        }
        if (isSlow(by, waiting, connection.socket.bytesWritten)) return connections.end(connection);
        if (streams.size === 0) checkQuiet(by);
      },
      drain,
      finish,
    };

    function drain(): void {
      if (toldAt !== undefined || session.closed || session.destroyed) return;
      toldAt = clock.now();
      session.goaway(constants.NGHTTP2_NO_ERROR, NO_STREAM_YET);
    }

    function finish(): void {
      session.close();
      if (streams.size === 0) connections.leave(connection);
    }

    function checkQuiet(by: number): void {
      const now = connection.socket.bytesRead;
      if (read !== 0 && now !== read) stirredAt ??= by;
      read = now;
      const headersAreLate = stirredAt !== undefined && by - stirredAt >= times.headersMs;
      const hasGoneQuiet = toldAt !== undefined && by - Math.max(toldAt, quietSince) >= times.lingerMs;
      if (session.closed || headersAreLate || hasGoneQuiet || by - quietSince >= times.idleMs) finish();
    }

    function checkStream(stream: ServerHttp2Stream, its: { began: number; answerDue?: number }, by: number): void {
      if (by - its.began >= times.requestMs && !stream.state.remoteClose) return refuse(stream);
      if (!stream.writableEnded) return;
      its.answerDue ??= by + patience(stream.bufferSize, times.answerMs);
      if (by >= its.answerDue) stream.close(constants.NGHTTP2_CANCEL);
    }

    /** The body did not come in time. What still comes of it reaches nobody, so nothing that was refused is handled after all. */
    function refuse(stream: ServerHttp2Stream): void {
      if (stream.closed) return void stream.destroy(); // the peer gave up, and nobody reads what it had sent
      if (stream.headersSent) return stream.close(stream.writableFinished ? constants.NGHTTP2_NO_ERROR : constants.NGHTTP2_CANCEL);
      const { status, headers, body } = refusal('request_timeout', true, connection.from);
      cuts.get(stream)?.();
      stream.respond({ ...headers, ':status': status });
      stream.end(body, () => stream.close(constants.NGHTTP2_NO_ERROR));
    }
  }
}

/**
 * What is still to come of a body reaches nobody, and the handler gets the error that HTTP/1.1 would give it. Node's
 * compatibility layer says `end` whatever the reason, so that half a body would pass for the whole.
 */
function cutBody(request: Http2ServerRequest): void {
  const { stream } = request;
  if (request.readableEnded) return;
  stream.removeAllListeners('data').removeAllListeners('end').resume();
  // Not before the stream is closed: whatever the handler still answers is dropped then, else it throws.
  stream.prependOnceListener('close', () => {
    if (request.listenerCount('error') === 0) request.on('error', () => {});
    request.destroy(Object.assign(new Error('aborted'), { code: 'ECONNRESET' }));
  });
}

/** As RFC 9113 section 6.5.2 counts: each field costs 32 bytes more than its text. */
const sizeOf = (rawHeaders: readonly string[]): number => rawHeaders.reduce((sum, text) => sum + text.length + 16, 0);
