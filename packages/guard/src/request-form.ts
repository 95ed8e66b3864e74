import type { IncomingMessage } from 'node:http';
import type { GuardProblemCode } from './problem.ts';

/**
 * What Node and Fastify let through and HTTP does not: no or two Hosts, a Host with a path or a user in it, or another
 * than the target names (RFC 9112 section 3.2), two Authorizations or types of the body, a body in a coding that nobody
 * here undoes.
 */
export function formProblem(request: IncomingMessage): GuardProblemCode | undefined {
  const { rawHeaders } = request;
  let hosts = 0;
  let authority: string | undefined;
  let authorizations = 0;
  let types = 0;
  for (let i = 0; i < rawHeaders.length; i += 2) {
    const name = rawHeaders[i] ?? '';
    if (name.length === 4 && name.toLowerCase() === 'host') hosts += 1;
    else if (name.length === 10 && name === ':authority') authority = rawHeaders[i + 1];
    else if (name.length === 13 && name.toLowerCase() === 'authorization') authorizations += 1;
    else if (name.length === 12 && name.toLowerCase() === 'content-type') types += 1;
  }
  if (authorizations > 1) return 'header_duplicated';
  if (!isHostGood(request, hosts, authority)) return 'host_invalid';
  if (types > 1) return 'media_type_unsupported';
  const { 'content-encoding': encoding, 'transfer-encoding': transfer } = request.headers;
  if (transfer !== undefined && (transfer.toLowerCase() !== 'chunked' || request.httpVersion === '1.0')) return 'request_malformed';
  return encoding === undefined || encoding.toLowerCase() === 'identity' ? undefined : 'encoding_unsupported';
}

function isHostGood(request: IncomingMessage, hosts: number, authority: string | undefined): boolean {
  const host = authority ?? request.headers.host;
  if (host === undefined) return request.httpVersion === '1.0';
  if (hosts > 1 || (authority !== undefined && hosts === 1 && request.headers.host !== authority)) return false;
  return isHost(host) && (request.url?.startsWith('/') || namedIn(request.url ?? '', host) === host.toLowerCase());
}

/** The host of a target that is a whole URL, in lower case; of any other, the one that the header names. */
function namedIn(target: string, host: string): string {
  const [, named = host] = /^https?:\/\/([^/?#]*)/i.exec(target) ?? [];
  return named.toLowerCase();
}

/** A name or an address, with an optional port: nothing that could smuggle a user, a path or a second host. */
const isHost = (text: string): boolean => text.length <= 261 && /^(?:[a-z0-9_.-]+|\[[0-9a-f:.]+\])(?::\d{1,5})?$/i.test(text);
