import { createServer, type Server } from 'node:http';
import { isIP } from 'node:net';

/** What an operator may see of a running server. */
export type Detail = Readonly<Record<string, unknown>> & { readonly ready: boolean };

/**
 * The listener for operators: `GET /readyz` with the reasons. In clear, so on loopback or a network of one's own; asked by
 * an address or as localhost only, so that no web page can be pointed at it by a name of its own (DNS rebinding).
 */
export function adminServer(detail: () => Promise<Detail>): Server {
  return createServer({ requestTimeout: 5_000, headersTimeout: 5_000 }, (request, response) => {
    const answer = (status: number, body: unknown): void => {
      response
        .writeHead(status, { 'content-type': 'application/json; charset=utf-8', 'cache-control': 'no-store' })
        .end(`${JSON.stringify(body)}\n`);
    };
    const host = (request.headers.host ?? '').replace(/:\d+$/, '').replace(/^\[|\]$/g, '');
    if (host !== 'localhost' && !isIP(host)) return answer(421, { error: 'ask by address' });
    if (request.url !== '/readyz' || request.method !== 'GET') return answer(404, { error: 'there is GET /readyz' });
    detail().then(
      (found) => answer(found.ready ? 200 : 503, found),
      () => answer(503, { ready: false }),
    );
  });
}
