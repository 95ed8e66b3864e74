import type { FastifyReply, FastifyRequest, RouteOptions } from 'fastify';
import type { Access } from './access.ts';
import type { AccessTokens, Caller } from './access-token.ts';
import { findBearer } from './bearer.ts';
import type { ClientAddress } from './client-address.ts';
import type { Clock } from './clock.ts';
import { type Limit, type LimitBy, parseLimits, type Rule, rulesFor } from './limit.ts';
import { charges, type Limiter, type Place } from './limiter.ts';
import { Problem } from './problem.ts';
import type { Revocations } from './revocation.ts';
import { andThen, orElse, type Soon } from './soon.ts';

/** Gates 4 to 7 of one route. */
export type Gate = {
  readonly access: Access;
  readonly rules: readonly Rule[];
  /** Finds the caller, counts the request, and lets it pass. @throws {Problem} when it may not. */
  enter(request: FastifyRequest, reply: FastifyReply): Soon<void>;
  /**
   * Asks again for the caller, once the body has come: a sender may take his time with it, and the session may end or the
   * token expire meanwhile. Counts nothing. @throws {Problem} `token_revoked`, `token_expired`, `token_invalid`
   */
  enterAgain(request: FastifyRequest): Soon<void>;
  /** Counts a request that goes no further, for its own form, by its address. @throws {Problem} `rate_limited` */
  countOnly(request: FastifyRequest, reply: FastifyReply): Soon<void>;
};

export type GateOptions = {
  readonly tokens: AccessTokens;
  readonly revocations: Revocations;
  readonly limiter: Limiter;
  readonly clock: Clock;
  /** Join the limits of a route that names none by ip. */
  readonly defaultLimits: readonly Limit[];
};

export const kFrom = Symbol('from');
export const kSince = Symbol('since');
export const kCaller = Symbol('caller');
export const kRefreshToken = Symbol('refresh token');
export const kCountUsername = Symbol('limits by username');

/** What the gates keep on a request. */
export type Guarded = FastifyRequest & {
  [kFrom]: ClientAddress;
  /** By the stopwatch, when the first gate was entered, until somebody has been told of the answer. */
  [kSince]: number | undefined;
  [kCaller]: Caller | undefined;
  [kRefreshToken]: string | undefined;
  [kCountUsername]: ((name: string) => Soon<void>) | undefined;
};

/** The guard dresses every request before anything else looks at it, so each has these. */
export const guarded = (request: FastifyRequest): Guarded => request as Guarded;

/**
 * Puts a route's gates together, once, when the route is added.
 * @throws {Error} when the route says no access, or a limit that cannot be.
 */
export function makeGate(route: RouteOptions, on: GateOptions): Gate {
  const methods = [route.method].flat();
  const where = `${methods.join(',')} ${route.url}`;
  const { access, limits = [] } = route.config ?? {};
  if (!access) throw new Error(`${where} says no access: add config: { access: signedIn() } or open()`);
  const own = limits.flatMap((limit) => limitsOf(limit, where));
  const all = own.some(({ by }) => by === 'ip') ? own : [...own, ...on.defaultLimits];
  const rules = rulesFor({ method: methods[0] ?? 'GET', path: route.url }, all);
  const rulesBy = (by: LimitBy): Rule[] => rules.filter(({ limit }) => limit.by === by);
  const [ipRules, callerRules, usernameRules] = [rulesBy('ip'), rulesBy('caller'), rulesBy('username')];
  if (callerRules.length && access.kind !== 'signed-in') throw new Error(`${where} has a limit by caller, but anyone may call it`);

  return {
    access,
    rules,
    enter(request, reply) {
      const asked = guarded(request);
      const at = placeOf(asked, reply);
      if (usernameRules.length) asked[kCountUsername] = (name) => on.limiter.count(charges(usernameRules, name), at);
      switch (access.kind) {
        case 'open':
          return enterOpen(at);
        case 'refresh-token':
          return enterToRefresh(asked, at);
        case 'signed-in-if-sent':
          return !request.headers.authorization ? enterOpen(at) : andThen(enterSignedIn(asked, at), () => {});
        case 'signed-in':
          return andThen(enterSignedIn(asked, at), (caller) => meet(access, caller));
      }
    },
    enterAgain: (request) => (guarded(request)[kCaller] ? andThen(authenticate(guarded(request)), () => {}) : undefined),
    countOnly: (request, reply) => enterOpen(placeOf(guarded(request), reply)),
  };

  function placeOf(request: Guarded, answer: FastifyReply): Place {
    return { block: request[kFrom].block, rules, answer };
  }

  function enterOpen(at: Place): Soon<void> {
    return on.limiter.count(charges(ipRules, at.block), at);
  }

  function enterToRefresh(request: Guarded, at: Place): Soon<void> {
    return andThen(on.limiter.check([], at), () =>
      andThen(enterOpen(at), () => {
        request[kRefreshToken] = bearer(request, 'refresh');
      }),
    );
  }

  /**
   * Who is over a limit already is told so before his token costs us a look. Then the token; the request counts by its
   * address whether it is good or not, and by its caller only on the word of one that was verified.
   */
  function enterSignedIn(request: Guarded, at: Place): Soon<Caller> {
    const byIp = charges(ipRules, at.block);
    const payAndRethrow = (refusal: unknown): Soon<Caller> =>
      andThen(on.limiter.count(byIp, at), () => {
        throw refusal;
      });
    const pay = (caller: Caller): Soon<Caller> =>
      andThen(on.limiter.count([...byIp, ...charges(callerRules, caller.userId)], at), () => caller);
    const authenticated = andThen(on.limiter.check(byIp, at), () => orElse(() => authenticate(request), payAndRethrow));
    return andThen(authenticated, pay);
  }

  function authenticate(request: Guarded): Soon<Caller> {
    return andThen(on.tokens.read(bearer(request, 'access')), (caller) => {
      request[kCaller] = caller;
      return andThen(on.revocations.isRevoked(caller.sessionId), (revoked) => {
        if (revoked) throw new Problem('token_revoked');
        return caller;
      });
    });
  }

  function meet({ scopes, freshWithinMs }: Access & { kind: 'signed-in' }, caller: Caller): void {
    if (!scopes.every((scope) => caller.scopes.includes(scope))) throw new Problem('scope_missing');
    if (freshWithinMs === undefined || on.clock.now() - caller.authenticatedAt < freshWithinMs) return;
    throw new Problem('authentication_stale', undefined, { maxAgeS: freshWithinMs / 1_000 });
  }
}

function bearer({ headers }: FastifyRequest, due: 'access' | 'refresh'): string {
  const found = findBearer(headers.authorization, due);
  if ('problem' in found) throw new Problem(found.problem);
  return found.token;
}

/** @throws {Error} that names the route. */
function limitsOf(text: string, where: string): Limit[] {
  try {
    return parseLimits(text);
  } catch (error) {
    throw new Error(`${where}: ${error instanceof Error ? error.message : 'wrong limit'}`, { cause: error });
  }
}
