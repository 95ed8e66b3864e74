import type { IncomingMessage, Server, ServerResponse } from 'node:http';
import { isIP } from 'node:net';
import { type Format, formats } from '../lib/exposition.ts';
import { createServer } from '../lib/node-http.ts';
import { serverLog } from '../lib/server-log.ts';

/** What an operator may see of a running server. */
export type Detail = Readonly<Record<string, unknown>> & { readonly ready: boolean };

export type AdminPages = {
  readonly detail: () => Promise<Detail>;
  readonly metrics: (format: Format) => Promise<string>;
};

/** An operator, a probe and two Prometheus servers need a handful. */
const MAX_CONNECTIONS = 64;

/**
 * The listener for operators: `GET /readyz` with the reasons, `GET /metrics` for Prometheus, `GET /healthz` for who only wants
 * to know whether the process answers. In clear, so on loopback or a network of one's own; asked by an address or as localhost
 * only, so that no web page can be pointed at it by a name of its own (DNS rebinding).
 */
export function adminServer({ detail, metrics }: AdminPages): Server {
  const pages = new Map([
    ['/metrics', prometheus],
    ['/readyz', readyz],
    ['/healthz', healthz],
  ]);
  const server = createServer({ requestTimeout: 5_000, headersTimeout: 5_000, connectionsCheckingInterval: 1_000 }, (request, response) => {
    const page = pages.get(request.url?.split('?', 1)[0] ?? '');
    if (!isAskedByAddress(request)) return json(response, 421, { error: 'ask by address' });
    if (!page) return json(response, 404, { error: 'there are GET /metrics, GET /readyz and GET /healthz' });
    if (request.method !== 'GET' && request.method !== 'HEAD') {
      response.setHeader('allow', 'GET, HEAD');
      return json(response, 405, { error: 'this takes GET' });
    }
    page(request, response).catch((error: unknown) => {
      serverLog.error({ err: error }, 'a page for operators');
      json(response, 503, { ready: false });
    });
  });
  server.maxConnections = MAX_CONNECTIONS;
  return server;

  async function readyz(_: IncomingMessage, response: ServerResponse): Promise<void> {
    const found = await detail();
    json(response, found.ready ? 200 : 503, found);
  }

  async function healthz(_: IncomingMessage, response: ServerResponse): Promise<void> {
    json(response, 200, { status: 'ok' });
  }

  async function prometheus({ headers }: IncomingMessage, response: ServerResponse): Promise<void> {
    // Prometheus names the formats that it reads, the one that it likes best first; a browser or curl gets the older one.
    const format: Format = headers.accept?.includes('application/openmetrics-text') ? 'openmetrics' : 'prometheus';
    answer(response, 200, formats[format], await metrics(format));
  }
}

function isAskedByAddress({ headers }: IncomingMessage): boolean {
  const host = (headers.host ?? '').replace(/:\d+$/, '').replace(/^\[|\]$/g, '');
  return host === 'localhost' || isIP(host) !== 0;
}

const json = (response: ServerResponse, status: number, body: unknown): void =>
  answer(response, status, 'application/json; charset=utf-8', `${JSON.stringify(body)}\n`);

function answer(response: ServerResponse, status: number, type: string, body: string): void {
  response
    .writeHead(status, {
      'content-type': type,
      'content-length': Buffer.byteLength(body),
      'cache-control': 'no-store',
      'x-content-type-options': 'nosniff',
    })
    .end(body);
}
