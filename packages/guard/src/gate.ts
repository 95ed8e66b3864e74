import type { FastifyReply, FastifyRequest, RouteOptions } from 'fastify';
import type { Access } from './access.ts';
import type { AccessTokens, Caller } from './access-token.ts';
import { findBearer, type Found, ofKind } from './bearer.ts';
import type { ClientAddress } from './client-address.ts';
import type { Clock } from './clock.ts';
import { cookieValues, findCookie, tokenCookieNames } from './cookie.ts';
import type { CookieOptions, Csrf } from './csrf.ts';
import { DressedResponse, type Head } from './dressed-response.ts';
import { type Limit, type LimitBy, parseLimits, type Rule, rulesFor } from './limit.ts';
import type { Charge } from './counters.ts';
import { charges, type Limiter, type Place } from './limiter.ts';
import { isAuthenticationFailure, orThrow, Problem, refusal, refusalIn } from './problem.ts';
import type { Revocations } from './revocation.ts';
import { andThen, orElse, type Soon } from './soon.ts';

/** Gates 4 to 7 of one route. */
export type Gate = {
  readonly access: Access;
  readonly rules: readonly Rule[];
  /**
   * Finds the caller, counts the request, and lets it pass. @returns why it may not: throwing is a good part of what a flood
   * of refusals would cost. @throws {Problem} for what is seldom: a page that may not send its cookie, a truth that cannot be asked.
   */
  enter(request: FastifyRequest, reply: FastifyReply): Soon<Problem | undefined>;
  /**
   * Asks again for the caller, once the body has come: a sender may take his time with it, and the session may end or the
   * token expire meanwhile. Counts nothing. @throws {Problem} `token_revoked`, `token_expired`, `token_key_gone`, `token_invalid`
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
  /** Without it no cookie is ever looked at. */
  readonly cookies: (Csrf & Pick<CookieOptions, 'sessionOf'>) | undefined;
  /** Join the limits of a route that names none by ip. */
  readonly defaultLimits: readonly Limit[];
};

export const kState = Symbol('what the gates keep');

/** How a token came. */
export type Transport = 'bearer' | 'cookie';

/** What the gates keep on a request. */
export type State = {
  from: ClientAddress;
  /** The route's pattern, or `undefined` where nothing is. */
  route: string | undefined;
  gate: Gate | undefined;
  /** By the stopwatch, when the first gate was entered, until somebody has been told of the answer. */
  since: number | undefined;
  /** What a failed authentication pays. */
  hasPaid: boolean;
  caller: Caller | undefined;
  refreshToken: string | undefined;
  transport: Transport | undefined;
  cookieSessionId: string | undefined;
  countUsername: ((name: string) => Soon<void>) | undefined;
};

/** Where the gates tell their headers. */
export const headOf = (reply: FastifyReply): Head => (reply.raw instanceof DressedResponse ? reply.raw : reply);

/** The guard dresses every request before anything else looks at it, so each has these. */
export type Guarded = FastifyRequest & { [kState]: State };
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
      if (usernameRules.length)
        asked[kState].countUsername = (name) => andThen(on.limiter.count(charges(usernameRules, name), at), orThrow);
      switch (access.kind) {
        case 'open':
          return enterOpen(at);
        case 'refresh-token':
          return enterToRefresh(asked, at);
        case 'signed-in-if-sent':
          return isTokenSent(request) ? andThen(enterSignedIn(asked, at), problemIn) : enterOpen(at);
        case 'session-if-named':
          return request.headers.authorization
            ? andThen(enterSignedIn(asked, at), problemIn)
            : andThen(enterOpen(at), (refused) => refused ?? andThen(findNamedSession(asked), nothing));
        case 'signed-in':
          return andThen(enterSignedIn(asked, at), (caller) => (caller instanceof Problem ? caller : meet(access, caller)));
      }
    },
    enterAgain: (request) =>
      guarded(request)[kState].caller ? andThen(andThen(authenticate(guarded(request)), orThrow), nothing) : undefined,
    countOnly: (request, reply) => andThen(enterOpen(placeOf(guarded(request), reply)), orThrow),
  };

  function placeOf(request: Guarded, answer: FastifyReply): Place {
    return { block: request[kState].from.block, rules, answer: headOf(answer) };
  }

  function enterOpen(at: Place): Soon<Problem | undefined> {
    return on.limiter.count(charges(ipRules, at.block), at);
  }

  function enterToRefresh(request: Guarded, at: Place): Soon<Problem | undefined> {
    const enter = (): Soon<Problem | undefined> => {
      const found = findToken(request, 'refresh');
      if ('problem' in found) return refusal(found.problem);
      request[kState].refreshToken = found.token;
      return request[kState].transport === 'cookie' ? andThen(enterByRefreshCookie(request, found.token), nothing) : undefined;
    };
    return andThen(
      on.limiter.check(on.limiter.withFailure([], at), at),
      (refused) => refused ?? andThen(enterOpen(at), (refused) => refused ?? enter()),
    );
  }

  /** Gate 6 needs to know the session, so a refresh token that came in a cookie is looked at here already. */
  function enterByRefreshCookie(request: Guarded, token: string): Soon<void> {
    const sessionId = on.cookies?.sessionOf(token);
    if (sessionId === undefined) throw new Problem('token_invalid', 'not a refresh token of ours');
    return andThen(on.revocations.isRevoked(sessionId), (revoked) => {
      request[kState].cookieSessionId = sessionId;
      if (revoked) throw new Problem('token_revoked');
      on.cookies?.assertOwnPage(request, sessionId);
    });
  }

  /**
   * The refresh cookie lives longest, so it names the session; where it is not ours the access cookie does. Where neither
   * names one that may still live, there is nothing that a token could be bound to, and the origin is enough.
   */
  function findNamedSession(request: Guarded): Soon<void> {
    const { authorization, cookie } = request.headers;
    if (!on.cookies || authorization !== undefined) return;
    const refresh = findCookie(cookie, tokenCookieNames.refresh);
    const access = findCookie(cookie, tokenCookieNames.access);
    if (refresh === undefined && access === undefined) return;
    request[kState].transport = 'cookie';
    on.cookies.assertOwnOrigin(request);
    const sessionId = refresh === undefined ? undefined : on.cookies.sessionOf(refresh);
    if (sessionId !== undefined) {
      return andThen(on.revocations.isRevoked(sessionId), (revoked) => {
        if (revoked) return;
        request[kState].cookieSessionId = sessionId;
        on.cookies?.assertOwnPage(request, sessionId);
      });
    }
    if (access === undefined) return;
    return orElse(
      () => andThen(andThen(authenticate(request), orThrow), (caller) => on.cookies?.assertOwnPage(request, caller.sessionId)),
      (refusal) => {
        if (!(refusal instanceof Problem) || !NAMES_NO_LIVING_SESSION.includes(refusal.code)) throw refusal;
        request[kState].caller = undefined;
      },
    );
  }

  /**
   * Who is over a limit already is told so before his token costs us a look. Then the token; the request counts by its
   * address whether it is good or not, and by its caller only on the word of one that was verified.
   */
  function enterSignedIn(request: Guarded, at: Place): Soon<Caller | Problem> {
    const byIp = charges(ipRules, at.block);
    const ofFailure = on.limiter.withFailure(byIp, at);
    const payFor = (why: unknown): Soon<Problem> => {
      const failed = why instanceof Problem && isAuthenticationFailure(why.code);
      request[kState].hasPaid = failed;
      return andThen(on.limiter.count(failed ? ofFailure : byIp, at), (refused) => refused ?? refusalIn(why));
    };
    const pay = (shown: Shown | Problem): Soon<Caller | Problem> => {
      if (shown instanceof Problem) return payFor(shown);
      const { token, caller } = shown;
      const strange = strangePage(request, caller); // who was sent here by it is not charged for it as a caller
      const byCaller = strange ? [] : charges(callerRules, caller.userId);
      const counted = andThen(on.limiter.countFor(caller.sessionId, byIp, byCaller, at), (revoked) => {
        if (revoked !== 'paid') return revoked;
        request[kState].hasPaid = true;
        return true;
      });
      return believe(token, caller, counted, strange);
    };
    const enterWith = (token: string): Soon<Caller | Problem> => {
      const shown = orElse<Shown | Problem>(
        () => look(request, token),
        (fault) => andThen(payFor(fault), orThrow),
      );
      return andThen(shown, pay);
    };
    return andThen(on.limiter.check(ofFailure, at), (refused) => {
      if (refused) return refused;
      const found = findToken(request, 'access');
      if ('problem' in found) return payFor(refusal(found.problem));
      const unseen = on.limiter.takeForKnown && on.tokens.unseen?.(found.token);
      if (!unseen) return enterWith(found.token);
      return andThen(enterKnown(request, at, byIp, found.token, unseen), (known) => known ?? enterWith(found.token));
    });
  }

  /**
   * By a token that those know who issued it, so that its signature need not be checked here: asked in the one trip in which
   * the request is counted. Until they have said so, nothing that it says counts for anything.
   * @returns `undefined` where they do not know it, and nothing was counted.
   */
  function enterKnown(
    request: Guarded,
    at: Place,
    byIp: readonly Charge[],
    token: string,
    { caller, mark, remember }: Unseen,
  ): Soon<Caller | Problem | undefined> {
    const strange = strangePage(request, caller);
    const byCaller = strange ? [] : charges(callerRules, caller.userId);
    return andThen(on.limiter.takeForKnown?.(mark, caller.sessionId, byIp, byCaller), (said) => {
      if (!said) return undefined;
      remember();
      request[kState].caller = caller; // from here on refusals name him
      return on.limiter.admit(said.verdict, at) ?? believe(token, caller, Promise.resolve(said.revoked), strange);
    });
  }

  /** Why the page that a cookie came from may not send it; told only once the session is known to live. */
  function strangePage(request: Guarded, caller: Caller): Problem | undefined {
    if (request[kState].transport !== 'cookie') return undefined;
    try {
      on.cookies?.assertOwnPage(request, caller.sessionId);
      return undefined;
    } catch (error) {
      return refusalIn(error);
    }
  }

  function authenticate(request: Guarded): Soon<Caller | Problem> {
    const found = findToken(request, 'access');
    if ('problem' in found) return refusal(found.problem);
    return andThen(look(request, found.token), (shown) =>
      shown instanceof Problem ? shown : believe(shown.token, shown.caller, on.revocations.isRevoked(shown.caller.sessionId)),
    );
  }

  /** Whose token it is, by its own word. */
  function look(request: Guarded, token: string): Soon<Shown | Problem> {
    return andThen(read(token), (caller) => {
      if (caller instanceof Problem) return caller;
      request[kState].caller = caller;
      return { token, caller };
    });
  }

  function believe(token: string, caller: Caller, asked: Soon<boolean | Problem>, strange?: Problem): Soon<Caller | Problem> {
    const verdict = (revoked: boolean): Caller | Problem => (revoked ? refusal('token_revoked') : (strange ?? caller));
    if (asked instanceof Problem) return asked;
    if (!(asked instanceof Promise)) return verdict(asked);
    // Who had to wait for news of sessions may have waited for news of keys too.
    return asked.then((revoked) =>
      revoked instanceof Problem ? revoked : andThen(judge(token), (now) => (now instanceof Problem ? now : verdict(revoked))),
    );
  }

  function read(token: string): Soon<Caller | Problem> {
    const { newKeys } = on.revocations;
    if (!newKeys) return judge(token);
    return andThen(judge(token), (caller) =>
      caller instanceof Problem && caller.reason === 'unknown key' ? newKeys().then(() => judge(token)) : caller,
    );
  }

  function judge(token: string): Soon<Caller | Problem> {
    return on.tokens.judge ? on.tokens.judge(token) : orElse<Caller | Problem>(() => on.tokens.read(token), refusalIn);
  }

  /** Whatever Authorization says counts; only where there is none at all a cookie is read, and only while cookies are on. */
  function findToken(request: Guarded, due: 'access' | 'refresh'): Found {
    const { authorization, cookie } = request.headers;
    const inCookies = on.cookies && authorization === undefined ? cookieValues(cookie, tokenCookieNames[due]) : [];
    const [inCookie, ...more] = inCookies;
    request[kState].transport = inCookie === undefined ? 'bearer' : 'cookie';
    if (more.length > 0) return { problem: 'cookie_duplicated' };
    return inCookie === undefined ? findBearer(authorization, due) : ofKind(inCookie, due);
  }

  function isTokenSent({ headers: { authorization, cookie } }: FastifyRequest): boolean {
    if (authorization !== undefined) return authorization !== '';
    return on.cookies !== undefined && cookieValues(cookie, tokenCookieNames.access).length > 0;
  }

  function meet({ scopes, freshWithinMs }: Access & { kind: 'signed-in' }, caller: Caller): Problem | undefined {
    if (!scopes.every((scope) => caller.scopes.includes(scope))) return refusal('scope_missing');
    if (freshWithinMs === undefined || on.clock.now() - caller.authenticatedAt < freshWithinMs) return undefined;
    return new Problem('authentication_stale', undefined, { maxAgeS: freshWithinMs / 1_000 });
  }
}

const nothing = (): undefined => undefined;

const problemIn = (entered: Caller | Problem): Problem | undefined => (entered instanceof Problem ? entered : undefined);

/** What an access token says of itself that nobody has verified. */
type Unseen = NonNullable<ReturnType<NonNullable<AccessTokens['unseen']>>>;

/** An access token that was verified, and whom it names. */
type Shown = { readonly token: string; readonly caller: Caller };

/** Refusals of an access cookie with which there is nothing left to log out of. */
const NAMES_NO_LIVING_SESSION: readonly string[] = ['token_revoked', 'token_invalid'];

/** @throws {Error} that names the route. */
function limitsOf(text: string, where: string): Limit[] {
  try {
    return parseLimits(text);
  } catch (error) {
    throw new Error(`${where}: ${error instanceof Error ? error.message : 'wrong limit'}`, { cause: error });
  }
}
