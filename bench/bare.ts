import { readFileSync } from 'node:fs';
import { createSecureServer } from 'node:http2';
import { createServer } from 'node:https';
import type { AddressInfo } from 'node:net';

/** Nothing but the platform: the same body over the same TLS, with no gate at all. Tells its parent its two ports. */
const [certFile = '', keyFile = ''] = process.argv.slice(2);
const tls = { cert: readFileSync(certFile), key: readFileSync(keyFile) };
const body = JSON.stringify({ logged_in_as: 'testuser' });
const headers = { 'content-type': 'application/json; charset=utf-8', 'content-length': Buffer.byteLength(body) };

// Connections rest between their turns, longer than Node's usual time-out.
const http1 = createServer({ ...tls, keepAliveTimeout: 60_000 }, (_, response) => {
  response.writeHead(200, headers).end(body);
}).listen(0, '127.0.0.1');
const http2 = createSecureServer(tls, (_, response) => {
  response.writeHead(200, headers).end(body);
}).listen(0, '127.0.0.1');
http2.once('listening', () =>
  process.send?.({ http1: (http1.address() as AddressInfo).port, http2: (http2.address() as AddressInfo).port }),
); // TCP servers, not pipes
process.once('disconnect', () => process.exit());
