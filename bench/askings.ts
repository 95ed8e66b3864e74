import type { Asking, Generator, Slice, Target } from './generator.ts';

/** An origin that the demo allows, so that every request is one of a browser's. */
export const FRONT_END = 'https://your-frontend.com';

/** Of a living session, and of one that was logged out. */
export type AccessTokens = { readonly access: string; readonly revoked: string };

/** As a browser's page asks, without a token. */
const anonymous = { origin: FRONT_END, accept: 'application/json', 'user-agent': 'bench' };
const get = { over: 'HTTP/1.1', method: 'GET', path: '/protected', headers: anonymous } as const;
const withTokens = (...tokens: string[]) => ({ tokens, taken: 'in turn' }) as const;

/** Somebody who is signed in, with a token that was seen before. */
export const good = ({ access }: AccessTokens): Asking => ({ ...get, bearers: withTokens(access), status: 200 });

/** Of each kind of refusal many that differ: none must be cheap because it was refused before. */
export const refusals = {
  'no token': () => ({ ...get, status: 401 }),
  malformed: ({ access }) => ({ ...get, bearers: withTokens(...variants((nth) => tampered(access, nth).replace('.', '!'))), status: 401 }),
  'unknown key': ({ access }) => ({ ...get, bearers: withTokens(...variants((nth) => withUnknownKey(access, nth))), status: 401 }),
  revoked: ({ revoked }) => ({ ...get, bearers: withTokens(revoked), status: 401 }),
  'over the limit': ({ access }) => ({
    ...get,
    method: 'POST',
    path: '/logout',
    headers: { ...anonymous, 'content-length': '0' },
    bearers: withTokens(access),
    status: 429,
  }),
  'bad signature': ({ access }) => ({ ...get, bearers: withTokens(...variants((nth) => tampered(access, nth))), status: 401 }),
} satisfies Record<string, (of: AccessTokens) => Asking>;

/** Each token once, and it was never seen by who is asked. */
export const firstSeen = (tokens: readonly string[]): Asking => ({ ...get, bearers: { tokens, taken: 'once' }, status: 200 });

const refreshing = (tokens: readonly string[], atMost?: number): Asking => ({
  over: 'HTTP/1.1',
  method: 'POST',
  path: '/refresh',
  headers: { ...anonymous, 'content-length': '0' },
  bearers: { tokens, taken: 'renew' },
  status: 200,
  atMost,
});

/** Lets a server renew sessions of its own, all of them at a time; the access tokens that it gives are in the slice. */
export async function refresh(
  server: Target & { refresh: readonly string[] },
  generator: Generator,
  forMs: number,
  atMost?: number,
): Promise<Slice> {
  const slice = await generator.slice(server, refreshing(server.refresh, atMost), forMs);
  server.refresh = slice.given.refresh;
  return slice;
}

/** With another signature each, in its right form. */
export function tampered(token: string, nth: number): string {
  const at = token.lastIndexOf('.') + 20;
  return `${token.slice(0, at)}t${nth.toString(36).padStart(7, '0')}${token.slice(at + 8)}`;
}

function withUnknownKey(token: string, nth: number): string {
  const [header = '', ...rest] = token.split('.');
  const fields = JSON.parse(Buffer.from(header, 'base64url').toString());
  return [Buffer.from(JSON.stringify({ ...fields, kid: `nobody-${nth}` })).toString('base64url'), ...rest].join('.');
}

const variants = (make: (nth: number) => string): string[] => Array.from({ length: 1_000 }, (_, nth) => make(nth));
