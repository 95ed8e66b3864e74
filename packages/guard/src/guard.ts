import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify';
import fastifyPlugin from 'fastify-plugin';
import { type Access, showAccess } from './access.ts';
import type { AccessTokens, Caller } from './access-token.ts';
import { answerProblem, problemOf } from './answer.ts';
import { type ClientAddress, clientAddress, forwardedAddress, trustedProxies } from './client-address.ts';
import { type Clock, stopwatch, systemClock } from './clock.ts';
import { cors } from './cors.ts';
import type { Counters } from './counters.ts';
import { type CookieOptions, csrf } from './csrf.ts';
import { type Attire, attire, DressedResponse, onHead } from './dressed-response.ts';
import { forwardings, type TrustedProxyHeader } from './forwarding.ts';
import { type Gate, guarded, headOf, kState, makeGate, type Transport } from './gate.ts';
import { securityHeaders } from './headers.ts';
import { isRequestId, newRequestId } from './id.ts';
import { parseLimits, rulesFor } from './limit.ts';
import { charges, limiter, type Place } from './limiter.ts';
import { guardProblems, isAuthenticationFailure, orThrow, Problem, type ProblemTable } from './problem.ts';
import { formProblem } from './request-form.ts';
import type { Revocations } from './revocation.ts';
import { type GuardedRoute, routeTable } from './route-table.ts';
import { andThen, settle, type Soon } from './soon.ts';

export type GuardOptions = {
  readonly tokens: AccessTokens;
  readonly revocations: Revocations;
  readonly counters: Counters;
  /** Default: the system's. */
  readonly clock?: Clock;
  /** For each route that names no limit `by ip` of its own. Default: 300 per minute by ip. */
  readonly defaultLimits?: string;
  /** What failed authentications pay, whatever the route. Default: 60 per minute by ip. */
  readonly authFailureLimits?: string;
  /** Exact origins of the front ends. Default: none. */
  readonly corsOrigins?: readonly string[];
  /** How long a browser may remember a preflight. Default: ten minutes. */
  readonly corsMaxAgeMs?: number;
  /** Lets tokens come in cookies, behind gate 6. Default: no cookie is ever looked at. */
  readonly cookies?: CookieOptions | undefined;
  /** Addresses and CIDR blocks of proxies whose word for who asks is believed. Default: none. */
  readonly trustedProxies?: readonly string[];
  /** The one header that is believed of them. Default: `x-forwarded-for`, with `x-forwarded-proto`. */
  readonly trustedProxyHeader?: TrustedProxyHeader;
  /** So many bits of an IPv6 address are one client to limits; from 32 to 128. Default: 64. */
  readonly ipv6Prefix?: number;
  /**
   * `at-proxy`: a declared proxy ends TLS. What does not come from one, or not with its word for `https` (`X-Forwarded-Proto: https`;
   * `proto=https` in the last element of `Forwarded`), is refused. Default: `own`.
   */
  readonly tls?: 'own' | 'at-proxy';
  /** Who is at the other end of a connection, for whoever knows more of it than its socket does. Asked once a connection. */
  readonly peer?: (request: FastifyRequest) => Peer | undefined;
  /** Problems beside the guard's own that handlers may throw. */
  readonly problems?: ProblemTable;
  /** Told of every refusal and every fault, for a security log. Must not throw. */
  readonly onRefused?: (refusal: Refusal) => void;
  /** Told of every answer as it is about to be sent, refusals too, for metrics. Must not throw. */
  readonly onAnswered?: (answered: Answered) => void;
};

/** What metrics may know of an answer. */
export type Answered = {
  /** The route's pattern, or `undefined` where nothing is, and for OPTIONS. Never the raw path. */
  readonly route: string | undefined;
  /** As it was sent: over HTTP/2, any text. */
  readonly method: string;
  readonly status: number;
  /** From the first gate until the answer was ready; what the peer takes to read it is not in it. */
  readonly tookMs: number;
};

/** @property encrypted whether it is TLS all the way from there, also where another than this server ends it. */
export type Peer = { readonly address: string; readonly encrypted: boolean };

/** What a security log may know of a refusal: no token, no password, no body. */
export type Refusal = {
  readonly code: string;
  readonly status: number;
  readonly reason: string | undefined;
  readonly from: ClientAddress;
  readonly method: string;
  /** The route's pattern, or `undefined` where nothing is. Never the raw path: anyone may have written that. */
  readonly route: string | undefined;
  readonly requestId: string;
  readonly userId: string | undefined;
  readonly sessionId: string | undefined;
  readonly logged: Readonly<Record<string, string>>;
  /** Only for a fault of ours (500). */
  readonly error: unknown;
};

const kGate: unique symbol = Symbol('gate');
const kPeer = Symbol('peer');
type KnownPeer = ClientAddress & Pick<Peer, 'encrypted'>;

declare module 'fastify' {
  interface FastifyContextConfig {
    /** Who may call this route; a route without it stops the start. */
    access?: Access;
    /** Limits in the language of `parseLimits`; the default limits join where none is `by ip`. */
    limits?: readonly string[];
    /** With TLS at a proxy: answer this route over plain HTTP too (a balancer's health check). */
    plain?: 'allowed';
    /** The guard's own. */
    [kGate]?: Gate;
  }
  interface FastifyRequest {
    /** Who asks. @throws on a route that anyone may call: it has no caller. */
    readonly caller: Caller;
    /** Who asks, if anyone says so. */
    readonly callerIfSent: Caller | undefined;
    /** The refresh token that was sent, not verified. @throws on a route that demands none. */
    readonly refreshToken: string;
    /** How the token came that counts; `undefined` where none did. */
    readonly transport: Transport | undefined;
    /** The session of a verified access token, or of a refresh cookie that is really ours, ended or not. */
    readonly sessionIdIfSent: string | undefined;
    /** Where it comes from: the peer, or the first hop that no declared proxy vouches for. */
    readonly from: ClientAddress;
    /**
     * Counts this route's limits `by username` for a name, before anything costly is done with it.
     * @throws {Problem} `rate_limited`
     */
    countUsername(name: string): Promise<void>;
    /**
     * For a handler that is about to set a cookie on a login's word: the request comes from a page of our own origin or an
     * allowed one. Nobody else may sign a browser in, under a name of his own (login CSRF).
     * @throws {Problem} `origin_refused`
     * @throws {Error} where the guard has no `cookies`.
     */
    assertOwnOrigin(): void;
  }
  interface FastifyInstance {
    /** Every route with its gates, in the order they were added. */
    readonly guardedRoutes: readonly GuardedRoute[];
  }
}

/**
 * Puts the gates in front of every route of a Fastify app; see `config.access` and `config.limits` of a route. Register it
 * before any route. Gates run in the first `onRequest` hook, before any other hook and a byte of the body, and answer what
 * they refuse themselves: no error handler of one's own can let it in.
 */
export const guard = fastifyPlugin<GuardOptions>(addGuard, { name: '@portcullis/guard', fastify: '5.x' });

async function addGuard(app: FastifyInstance, on: GuardOptions): Promise<void> {
  if (app.printRoutes() !== NO_ROUTES)
    throw new Error('register the guard before any route, and await it: what was there before it has no gate');
  const problems: ProblemTable = { ...guardProblems, ...on.problems };
  for (const [code, { challenge, msg, title }] of Object.entries(problems))
    if (challenge && !/^[ !#-[\]-~]*$/.test(msg ?? title))
      throw new Error(`the words of the problem ${code} go into a header: plain ones only`);
  const { ipv6Prefix = 64 } = on;
  if (!Number.isInteger(ipv6Prefix) || ipv6Prefix < 32 || ipv6Prefix > 128) throw new Error('ipv6Prefix is a whole number from 32 to 128');
  const clock = on.clock ?? systemClock();
  const isProxy = trustedProxies(on.trustedProxies ?? []);
  const believesProxies = (on.trustedProxies ?? []).length > 0;
  const forwarding = forwardings[on.trustedProxyHeader ?? 'x-forwarded-for'];
  const tls = on.tls ?? 'own';
  const origins = cors({ origins: on.corsOrigins ?? [], maxAgeMs: on.corsMaxAgeMs ?? 600_000 });
  const ownPages = on.cookies && csrf(on.cookies, on.corsOrigins ?? []);
  const cookies = on.cookies && ownPages && { ...ownPages, sessionOf: on.cookies.sessionOf };
  const attires = { secure: attiresFor(securityHeaders(true)), plain: attiresFor(securityHeaders(false)) };
  const defaultLimits = parseLimits(on.defaultLimits ?? '300 per minute by ip');
  const strayRules = rulesFor({ method: 'ANY', path: '/unknown' }, defaultLimits);
  const limits = limiter({
    counters: on.counters,
    revocations: on.revocations,
    failureRules: rulesFor({ method: 'ANY', path: '/auth-failures' }, parseLimits(on.authFailureLimits ?? '60 per minute by ip')),
  });
  const routes = routeTable();

  app.decorate('guardedRoutes', { getter: () => routes.all() });
  app.decorateRequest(kState, null);
  app.decorateRequest('from', {
    getter(this: FastifyRequest) {
      return guarded(this)[kState].from;
    },
  });
  app.decorateRequest('callerIfSent', {
    getter(this: FastifyRequest) {
      return guarded(this)[kState].caller;
    },
  });
  app.decorateRequest('caller', {
    getter(this: FastifyRequest) {
      const caller = guarded(this)[kState].caller;
      if (!caller) throw new Error(`${this.routeOptions.url ?? 'this route'} is open: it has no caller`);
      return caller;
    },
  });
  app.decorateRequest('refreshToken', {
    getter(this: FastifyRequest) {
      const token = guarded(this)[kState].refreshToken;
      if (token === undefined) throw new Error(`${this.routeOptions.url ?? 'this route'} demands no refresh token`);
      return token;
    },
  });
  app.decorateRequest('transport', {
    getter(this: FastifyRequest) {
      return guarded(this)[kState].transport;
    },
  });
  app.decorateRequest('sessionIdIfSent', {
    getter(this: FastifyRequest) {
      return guarded(this)[kState].cookieSessionId ?? guarded(this)[kState].caller?.sessionId;
    },
  });
  app.decorateRequest('assertOwnOrigin', function assertOwnOrigin(this: FastifyRequest) {
    if (!cookies) throw new Error('the guard has no cookies');
    cookies.assertOwnOrigin(this);
  });
  app.decorateRequest('countUsername', async function countUsername(this: FastifyRequest, name: string) {
    await guarded(this)[kState].countUsername?.(name);
  });

  app.addHook('onRoute', (route) => {
    const gate = makeGate(route, { tokens: on.tokens, revocations: on.revocations, limiter: limits, clock, cookies, defaultLimits });
    routes.add(route, showAccess(gate.access), gate.rules);
    route.config = { ...route.config, [kGate]: gate };
  });
  app.addHook('onRequest', (request, reply, done) =>
    settle(
      () => andThen(firstGates(request, reply), (goesOn) => (goesOn ? gateOf(request).enter(request, reply) : ANSWERED)),
      (refusal) => {
        if (refusal === undefined) done();
        else if (refusal !== ANSWERED) refuse(refusal, request, reply);
      },
      (refusal) => refuse(refusal, request, reply),
    ),
  );
  app.addHook('preValidation', (request, reply, done) => {
    if (request.method === 'GET' || request.method === 'HEAD') return done(); // there is no body to wait for
    settle(
      () => gateOf(request).enterAgain(request),
      () => done(),
      (refusal) => refuse(refusal, request, reply),
    );
  });
  const { onAnswered } = on;
  app.setErrorHandler(refuse);

  /**
   * Gates 1 to 3, for whatever comes in, known path or not; false when the request is answered by that.
   * @throws {Problem} what is refused.
   */
  function firstGates(request: FastifyRequest, reply: FastifyReply): Soon<boolean> {
    const { secure, allowedOrigin } = dress(request, reply);
    const malformed = formProblem(request.raw);
    if (malformed) {
      // Of a message whose end is in doubt, what follows on the connection is in doubt too (RFC 9112 section 6.1).
      if (malformed === 'request_malformed' && request.raw.httpVersionMajor === 1) reply.header('connection', 'close');
      return andThen(countOnly(request, reply), () => {
        throw new Problem(malformed);
      });
    }
    if (tls === 'at-proxy' && !secure && request.routeOptions.config.plain !== 'allowed')
      throw new Problem('https_required', whyNotSecure(peerOf(request)));
    if (!request.is404 && request.method !== 'OPTIONS') return true;
    const methods = request.method === 'OPTIONS' && request.url === '*' ? routes.allMethods() : routes.methods(request.url);
    if (request.method === 'OPTIONS' && methods.length > 0) return answerOptions(request, reply, methods, allowedOrigin);
    return andThen(countOnly(request, reply), () => {
      if (methods.length === 0) throw new Problem('not_found');
      reply.header('allow', allow(methods));
      throw new Problem('method_not_allowed');
    });
  }

  /** Counts what will be refused for what it is, by its address: by the limits of its route, or of all paths that are none. */
  function countOnly(request: FastifyRequest, reply: FastifyReply): Soon<void> {
    const { gate } = guarded(request)[kState];
    if (gate && !request.is404) return gate.countOnly(request, reply);
    const at = placeOf(request, reply);
    return andThen(limits.count(charges(strayRules, at.block), at), orThrow);
  }

  /** Gate 2, and what is said of the caller's origin: on every answer, errors included. */
  function dress(request: FastifyRequest, reply: FastifyReply): { secure: boolean; allowedOrigin: boolean } {
    const { headers } = request;
    const { url: route, config } = request.routeOptions; // Fastify makes it anew each time
    const since = onAnswered && stopwatch();
    if (onAnswered) onHead(reply.raw, () => tellAnswered(request, reply));
    const peer = peerOf(request);
    const proxied = believesProxies && isProxy(peer.address);
    const from = proxied ? clientAddress(forwardedAddress(peer.address, forwarding.hops(headers), isProxy), ipv6Prefix) : peer;
    guarded(request)[kState] = {
      from,
      route,
      gate: config[kGate],
      since,
      hasPaid: false,
      caller: undefined,
      refreshToken: undefined,
      transport: undefined,
      cookieSessionId: undefined,
      countUsername: undefined,
    };

    const sentId = proxied ? headers['x-request-id'] : undefined;
    request.id = typeof sentId === 'string' && isRequestId(sentId) ? sentId.toLowerCase() : newRequestId();
    const secure = tls === 'at-proxy' && proxied ? forwarding.isHttps(headers) : peer.encrypted;
    const { forNobody, forOrigin } = secure ? attires.secure : attires.plain;
    const allowed = headers.origin === undefined ? undefined : forOrigin.get(headers.origin);
    const fixed = allowed ?? forNobody;
    const head = headOf(reply);
    if (head instanceof DressedResponse) head.wear(fixed);
    else reply.headers(fixed.headers);
    head.header('x-request-id', request.id);
    return { secure, allowedOrigin: allowed !== undefined };
  }

  /** What each answer has on it, by whose page it is for. */
  function attiresFor(always: Readonly<Record<string, string>>): { forNobody: Attire; forOrigin: ReadonlyMap<string, Attire> } {
    const forOrigin = [...origins.exact].map((origin) => {
      const more = { 'access-control-allow-origin': origin, 'access-control-expose-headers': origins.exposed };
      return [origin, attire({ ...always, ...more, ...(cookies && { 'access-control-allow-credentials': 'true' }) })] as const;
    });
    return { forNobody: attire(always), forOrigin: new Map(forOrigin) };
  }

  /** A preflight asks before any token exists, so it is answered before any is asked for; it counts against no limit. */
  function answerOptions(request: FastifyRequest, reply: FastifyReply, methods: readonly string[], allowed: boolean): false {
    const isPreflight = request.headers.origin !== undefined && request.headers['access-control-request-method'] !== undefined;
    if (isPreflight) {
      reply.header('vary', 'Origin, Access-Control-Request-Method, Access-Control-Request-Headers');
      if (allowed) reply.headers(origins.preflight(methods));
    } else {
      reply.header('allow', allow(methods));
    }
    reply.code(204).send();
    return false;
  }

  /** The one place where a refusal becomes an answer. Failed authentications pay here, whichever gate or handler refused, unless they have. */
  function refuse(error: unknown, request: FastifyRequest, reply: FastifyReply): void {
    if (!guarded(request)[kState]) return refuseUnentered(error, request, reply);
    const problem = problemOf(error, problems);
    const paid = (): Soon<Problem | undefined> =>
      isAuthenticationFailure(problem.code) && !guarded(request)[kState].hasPaid ? limits.countFailure(placeOf(request, reply)) : undefined;
    settle(
      paid,
      (refused) => answer(error, refused ?? problem, request, reply),
      (fault) => answer(fault, problemOf(fault, problems), request, reply),
    );
  }

  /**
   * What Fastify refused before any hook: a path that cannot be read, a method that it has never heard of. The first gates
   * are entered all the same, and what they have against it is more exact, unless that is only "not found".
   */
  function refuseUnentered(error: unknown, request: FastifyRequest, reply: FastifyReply): void {
    const refuseAs = (found: unknown): void =>
      refuse(found instanceof Problem && found.code !== 'not_found' ? found : error, request, reply);
    settle(
      () => firstGates(request, reply),
      (goesOn) => {
        if (goesOn) refuse(error, request, reply);
      },
      refuseAs,
    );
  }

  function answer(error: unknown, problem: Problem<string>, request: FastifyRequest, reply: FastifyReply): void {
    const from = guarded(request)[kState].from;
    const status = answerProblem(request, reply, problem, problems);
    on.onRefused?.({
      code: problem.code,
      status,
      reason: problem.reason,
      from,
      method: request.method.slice(0, 20), // over HTTP/2 it may be any text
      route: guarded(request)[kState].route,
      requestId: request.id,
      userId: request.callerIfSent?.userId,
      sessionId: request.sessionIdIfSent,
      logged: problem.extra.logged ?? {},
      error: status === 500 ? error : undefined,
    });
  }

  /** Once for each answer. */
  function tellAnswered(request: FastifyRequest, reply: FastifyReply): void {
    const { since, route } = guarded(request)[kState];
    if (since === undefined) return;
    guarded(request)[kState].since = undefined;
    onAnswered?.({ route, method: request.method, status: reply.statusCode, tookMs: stopwatch() - since });
  }

  function placeOf(request: FastifyRequest, reply: FastifyReply): Place {
    return { block: guarded(request)[kState].from.block, rules: strayRules, answer: headOf(reply) };
  }

  /** Who is at the other end, worked out once a connection. */
  function peerOf(request: FastifyRequest): KnownPeer {
    const socket: FastifyRequest['raw']['socket'] & { [kPeer]?: KnownPeer } = request.raw.socket;
    return (socket[kPeer] ??= lookAtPeer(request));
  }

  function lookAtPeer(request: FastifyRequest): KnownPeer {
    const { socket } = request.raw;
    const known = on.peer?.(request);
    return {
      ...clientAddress(known?.address ?? socket.remoteAddress ?? '0.0.0.0', ipv6Prefix),
      encrypted: known?.encrypted ?? (tls === 'own' && 'encrypted' in socket),
    };
  }

  function whyNotSecure(peer: KnownPeer): string {
    if (!believesProxies) return 'the connection is not known to be TLS from the client on';
    return isProxy(peer.address) ? 'the proxy does not say https' : 'not from a declared proxy';
  }
}

/** What is not a refusal, and goes no further either. */
const ANSWERED = Symbol('answered');

/** What Fastify prints where there are none. */
const NO_ROUTES = '(empty tree)';

function gateOf(request: FastifyRequest): Gate {
  const { gate, route } = guarded(request)[kState];
  if (!gate) throw new Error(`${route} has no gate`);
  return gate;
}

const allow = (methods: readonly string[]): string => [...methods, 'OPTIONS'].join(', ');
