import type { GuardProblemCode } from './problem.ts';

/** The prefix of every refresh token, by which its kind is told before anything else is looked at. */
export const REFRESH_TOKEN_PREFIX = 'prt_';

export type Found = { readonly token: string } | { readonly problem: GuardProblemCode };

/** The token of an Authorization header (RFC 6750 section 2.1), of the kind that is due; or why there is none. */
export function findBearer(header: string | undefined, due: 'access' | 'refresh'): Found {
  if (!header) return { problem: 'token_missing' };
  const schemeEnd = header.indexOf(' ');
  const scheme = schemeEnd === -1 ? header : header.slice(0, schemeEnd);
  if (scheme.toLowerCase() !== 'bearer') return { problem: 'authorization_scheme' };
  let start = schemeEnd === -1 ? header.length : schemeEnd;
  while (header[start] === ' ') start += 1;
  const token = header.slice(start);
  if (token === '' || token.includes(' ')) return { problem: 'authorization_malformed' };
  return ofKind(token, due);
}

/** Tells the kinds of token apart, wherever one came from. */
export function ofKind(token: string, due: 'access' | 'refresh'): Found {
  const isRefresh = token.startsWith(REFRESH_TOKEN_PREFIX);
  if (due === 'access') return isRefresh ? { problem: 'access_token_required' } : { token };
  if (isRefresh) return { token };
  return { problem: token.split('.', 4).length === 3 ? 'refresh_token_required' : 'token_invalid' };
}
