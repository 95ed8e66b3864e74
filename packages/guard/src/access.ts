import { parseDuration, showDuration } from './duration.ts';

/** What a route demands of whoever calls it. A route without one stops the start. */
export type Access =
  /** Anyone; no token is looked at. */
  | { readonly kind: 'open' }
  /** A good access token of a living session. */
  | { readonly kind: 'signed-in'; readonly scopes: readonly string[]; readonly freshWithinMs: number | undefined }
  /** Anyone; but a token that is sent must be good. */
  | { readonly kind: 'signed-in-if-sent' }
  /** Anyone; but an access token in the Authorization header must be good. Of cookies, whichever still names a session. */
  | { readonly kind: 'session-if-named' }
  /** A refresh token in the Authorization header or its cookie; the handler checks it. */
  | { readonly kind: 'refresh-token' };

/** Anyone may call; no token is looked at. */
export const open = (): Access => ({ kind: 'open' });

/**
 * @param demands.scopes each must be in the token (`scope`, RFC 9068), else 403 `scope_missing`. The server's own logins have none yet.
 * @param demands.freshWithin the login must be younger than this (`'10 minutes'`), else 401 `authentication_stale` (RFC 9470).
 */
export function signedIn(demands: { scopes?: readonly string[]; freshWithin?: string } = {}): Access {
  return {
    kind: 'signed-in',
    scopes: demands.scopes ?? [],
    freshWithinMs: demands.freshWithin === undefined ? undefined : parseDuration(demands.freshWithin),
  };
}

/** Anyone may call, but a token that is sent must be good; `request.callerIfSent` says whose. */
export const signedInIfSent = (): Access => ({ kind: 'signed-in-if-sent' });

/**
 * For logging out, which must work with what is left: anyone may call; an access token in the Authorization header must be
 * good; else the refresh cookie names the session, or where it is not ours the access cookie. `request.sessionIdIfSent` has it.
 */
export const sessionIfNamed = (): Access => ({ kind: 'session-if-named' });

/** A refresh token in the Authorization header or its cookie; `request.refreshToken` has it, and the handler verifies it. */
export const refreshToken = (): Access => ({ kind: 'refresh-token' });

/** For the table of routes: `signed in (notes:write, fresh within 600 s)`. */
export function showAccess(access: Access): string {
  switch (access.kind) {
    case 'open':
      return 'open';
    case 'signed-in-if-sent':
      return 'signed in, if a token is sent';
    case 'session-if-named':
      return 'any token of a session, if one is sent';
    case 'refresh-token':
      return 'refresh token';
    case 'signed-in': {
      const demands = [
        ...access.scopes,
        ...(access.freshWithinMs === undefined ? [] : [`fresh within ${showDuration(access.freshWithinMs)}`]),
      ];
      return demands.length ? `signed in (${demands.join(', ')})` : 'signed in';
    }
  }
}
