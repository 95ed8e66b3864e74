import { createPublicKey, verify } from 'node:crypto';
import { createSecureServer } from 'node:http2';
import { createServer } from 'node:https';
import type { AddressInfo } from 'node:net';
import type { JWK } from 'jose';

/** What the parent says first: what to serve with, and the key of the tokens that `/verified` is asked with. */
export type BareSetting = { readonly cert: string; readonly key: string; readonly jwk: JWK };
/** And what it is told. */
export type BarePorts = { readonly http1: number; readonly http2: number };

/** Nothing but the platform: the same body over the same TLS, with no gate at all; at `/verified` one signature is checked before. */
process.once('message', ({ cert, key, jwk }: BareSetting) => {
  const tls = { cert, key };
  const signer = createPublicKey({ key: jwk, format: 'jwk' });
  const body = JSON.stringify({ logged_in_as: 'testuser' });
  const headers = { 'content-type': 'application/json; charset=utf-8', 'content-length': Buffer.byteLength(body) };

  function isSigned(authorization = ''): boolean {
    const token = authorization.slice('Bearer '.length);
    const end = token.lastIndexOf('.');
    return verify(null, Buffer.from(token.slice(0, end)), signer, Buffer.from(token.slice(end + 1), 'base64url'));
  }

  // Connections rest between their turns, longer than Node's usual time-out.
  const http1 = createServer({ ...tls, keepAliveTimeout: 60_000 }, (request, response) => {
    const status = request.url === '/verified' && !isSigned(request.headers.authorization) ? 401 : 200;
    response.writeHead(status, headers).end(body);
  }).listen(0, '127.0.0.1');
  const http2 = createSecureServer(tls, (_, response) => {
    response.writeHead(200, headers).end(body);
  }).listen(0, '127.0.0.1');
  const portOf = (server: { address(): unknown }): number => (server.address() as AddressInfo).port; // TCP servers, not pipes
  http2.once('listening', () => process.send?.({ http1: portOf(http1), http2: portOf(http2) } satisfies BarePorts));
});
for (const gone of ['disconnect', 'error']) process.once(gone, () => process.exit()); // who started it
