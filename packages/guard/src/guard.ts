import type { FastifyInstance, FastifyReply, FastifyRequest, HookHandlerDoneFunction, RouteOptions } from 'fastify';
import fastifyPlugin from 'fastify-plugin';
import { type Access, showAccess } from './access.ts';
import type { AccessTokens, Caller } from './access-token.ts';
import { answerProblem, problemOf } from './answer.ts';
import { findBearer } from './bearer.ts';
import { type ClientAddress, clientAddress, forwardedAddress, trustedProxies } from './client-address.ts';
import { type Clock, systemClock } from './clock.ts';
import { cors } from './cors.ts';
import type { Charge, Counters, Standing, Verdict } from './counters.ts';
import { securityHeaders } from './headers.ts';
import { isRequestId, newRequestId } from './id.ts';
import { parseLimits, type Rule, rulesFor } from './limit.ts';
import { guardProblems, Problem, type ProblemTable } from './problem.ts';
import { formProblem } from './request-form.ts';
import type { Revocations } from './revocation.ts';
import { routeTable, type GuardedRoute } from './route-table.ts';

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
  /** Addresses and CIDR blocks of proxies whose `X-Forwarded-For` is believed. Default: none. */
  readonly trustedProxies?: readonly string[];
  /** `at-proxy`: a declared proxy ends TLS; what does not come from one with `X-Forwarded-Proto: https` is refused. Default: `own`. */
  readonly tls?: 'own' | 'at-proxy';
  /** Problems beside the guard's own that handlers may throw. */
  readonly problems?: ProblemTable;
  /** Told of every refusal and every fault, for a security log. Must not throw. */
  readonly onRefused?: (refusal: Refusal) => void;
};

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

declare module 'fastify' {
  interface FastifyContextConfig {
    /** Who may call this route; a route without it stops the start. */
    access?: Access;
    /** Limits in the language of `parseLimits`; the default limits join where none is `by ip`. */
    limits?: readonly string[];
    /** With TLS at a proxy: answer this route over plain HTTP too (a balancer's health check). */
    plain?: 'allowed';
  }
  interface FastifyRequest {
    /** Who asks. @throws on a route that anyone may call: it has no caller. */
    readonly caller: Caller;
    readonly callerIfSent: Caller | undefined;
    readonly from: ClientAddress;
    /**
     * Counts this route's limits `by username` for a name, before anything costly is done with it.
     * @throws {Problem} `rate_limited`
     */
    countUsername(name: string): Promise<void>;
  }
  interface FastifyInstance {
    /** Every route with its gates, in the order they were added. */
    readonly guardedRoutes: readonly GuardedRoute[];
  }
}

/**
 * Puts the gates in front of every route of a Fastify app; see `config.access` and `config.limits` of a route.
 * Gates run in `onRequest`, before a byte of the body is parsed, and without a promise where nothing has to wait.
 */
export const guard = fastifyPlugin<GuardOptions>(addGuard, { name: '@portcullis/guard', fastify: '5.x' });

const kFrom = Symbol('from');
const kCaller = Symbol('caller');
const kPeer = Symbol('peer');
const kUsernameRules = Symbol('by-username rules');

type Guarded = FastifyRequest & { [kFrom]: ClientAddress; [kCaller]: Caller | undefined; [kUsernameRules]: readonly Rule[] };
type Gate = (request: FastifyRequest, reply: FastifyReply, done: HookHandlerDoneFunction) => void;

async function addGuard(app: FastifyInstance, on: GuardOptions): Promise<void> {
  const problems: ProblemTable = { ...guardProblems, ...on.problems };
  const clock = on.clock ?? systemClock();
  const isProxy = trustedProxies(on.trustedProxies ?? []);
  const believesProxies = (on.trustedProxies ?? []).length > 0;
  const tls = on.tls ?? 'own';
  const origins = cors({ origins: on.corsOrigins ?? [], maxAgeMs: on.corsMaxAgeMs ?? 600_000 });
  const fixedHeaders = { secure: securityHeaders(true), plain: securityHeaders(false) };
  const defaultLimits = parseLimits(on.defaultLimits ?? '300 per minute by ip');
  const failureRules = rulesFor({ method: 'ANY', path: '/auth-failures' }, parseLimits(on.authFailureLimits ?? '60 per minute by ip'));
  const strayRules = rulesFor({ method: 'ANY', path: '/unknown' }, defaultLimits);
  const routes = routeTable();

  app.decorate('guardedRoutes', { getter: () => routes.all() });
  app.decorateRequest(kFrom, null);
  app.decorateRequest(kCaller, undefined);
  app.decorateRequest(kUsernameRules, undefined);
  app.decorateRequest('from', { getter(this: FastifyRequest) { return (this as Guarded)[kFrom]; } });
  app.decorateRequest('callerIfSent', { getter(this: FastifyRequest) { return (this as Guarded)[kCaller]; } });
  app.decorateRequest('caller', {
    getter(this: FastifyRequest) {
      const caller = (this as Guarded)[kCaller];
      if (!caller) throw new Error(`${this.routeOptions.url ?? 'this route'} is open: it has no caller`);
      return caller;
    },
  });
  app.decorateRequest('countUsername', async function countUsername(this: FastifyRequest, name: string) {
    const rules = (this as Guarded)[kUsernameRules] ?? [];
    if (rules.length) passed(await on.counters.take(rules.map((rule) => ({ rule, who: name }))));
  });

  app.addHook('onRoute', (route) => {
    if (kGated in route) return;
    const gate = compileGate(route);
    const before = route.onRequest === undefined ? [] : [route.onRequest].flat();
    Object.assign(route, { [kGated]: true, onRequest: [gate, ...before] });
  });
  app.addHook('onRequest', firstGates);
  app.setNotFoundHandler(notFound);
  app.setErrorHandler(refuse);

  /** Gates 1 to 3, for whatever comes in, known path or not. */
  function firstGates(request: FastifyRequest, reply: FastifyReply, done: HookHandlerDoneFunction): void {
    const { secure, allowedOrigin } = dress(request, reply);
    const malformed = formProblem(request.raw);
    if (malformed) return done(new Problem(malformed));
    if (tls === 'at-proxy' && !secure && request.routeOptions.config.plain !== 'allowed') return done(new Problem('https_required'));
    if (request.method === 'OPTIONS') return answerOptions(request, reply, allowedOrigin, done);
    if (!request.is404) return done();
    whenSettled(on.counters.take(charges(strayRules, request.from.block)), (verdict) => {
      showStanding(reply, strayRules, verdict);
      done(verdict.allowed ? undefined : limited(verdict.refusedBy));
    }, done);
  }

  /** Gate 2, and what is said of the caller's origin: on every answer, errors included. */
  function dress(request: FastifyRequest, reply: FastifyReply): { secure: boolean; allowedOrigin: boolean } {
    const { headers } = request;
    const peer = peerOf(request);
    const proxied = believesProxies && isProxy(peer.address);
    (request as Guarded)[kFrom] = proxied ? clientAddress(forwardedAddress(peer.address, forwardedFor(request), isProxy)) : peer;

    const sentId = proxied ? headers['x-request-id'] : undefined;
    request.id = typeof sentId === 'string' && isRequestId(sentId) ? sentId.toLowerCase() : newRequestId();
    const secure = tls === 'own' ? isEncrypted(request) : proxied && headers['x-forwarded-proto'] === 'https';
    reply.headers(secure ? fixedHeaders.secure : fixedHeaders.plain);
    reply.header('x-request-id', request.id);

    const allowedOrigin = headers.origin !== undefined && origins.allows(headers.origin);
    if (allowedOrigin) {
      reply.header('access-control-allow-origin', headers.origin);
      reply.header('access-control-expose-headers', origins.exposed);
    }
    return { secure, allowedOrigin };
  }

  /** A preflight asks before any token exists, so it is answered before any is asked for; it counts against no limit. */
  function answerOptions(request: FastifyRequest, reply: FastifyReply, allowed: boolean, done: HookHandlerDoneFunction): void {
    const methods = routes.methods(request.url);
    if (methods.length === 0) return done();
    const isPreflight = request.headers.origin !== undefined && request.headers['access-control-request-method'] !== undefined;
    if (isPreflight) {
      reply.header('vary', 'Origin, Access-Control-Request-Method, Access-Control-Request-Headers');
      if (allowed) reply.headers(origins.preflight(methods));
    } else {
      reply.header('allow', [...methods, 'OPTIONS'].join(', '));
    }
    reply.code(204).send();
  }

  async function notFound(request: FastifyRequest, reply: FastifyReply): Promise<never> {
    const methods = routes.methods(request.url);
    if (methods.length === 0) throw new Problem('not_found');
    reply.header('allow', [...methods, 'OPTIONS'].join(', '));
    throw new Problem('method_not_allowed');
  }

  /** Gates 4 to 7 of one route, put together once, when the route is added. */
  function compileGate(route: RouteOptions): Gate {
    const where = `${[route.method].flat().join(',')} ${route.url}`;
    const { access, limits = [] } = route.config ?? {};
    if (!access) throw new Error(`${where} says no access: add config: { access: signedIn() } or open()`);
    const own = limits.flatMap((limit) => parseLimits(limit));
    const rules = rulesFor({ method: [route.method].flat()[0] ?? 'GET', path: route.url },
      own.some(({ by }) => by === 'ip') ? own : [...own, ...defaultLimits]);
    const ipRules = rules.filter(({ limit }) => limit.by === 'ip');
    const callerRules = rules.filter(({ limit }) => limit.by === 'caller');
    const usernameRules = rules.filter(({ limit }) => limit.by === 'username');
    if (callerRules.length && access.kind !== 'signed-in') throw new Error(`${where} has a limit by caller, but anyone may call it`);
    routes.add(route, showAccess(access), rules);

    if (access.kind === 'open') return openGate;
    if (access.kind === 'refresh-token') return refreshGate;
    return signedInGate;

    function openGate(request: FastifyRequest, reply: FastifyReply, done: HookHandlerDoneFunction): void {
      (request as Guarded)[kUsernameRules] = usernameRules;
      const { block } = (request as Guarded)[kFrom];
      whenSettled(on.counters.take(charges(ipRules, block)), (verdict) => {
        showStanding(reply, rules, verdict);
        done(verdict.allowed ? undefined : limited(verdict.refusedBy));
      }, done);
    }

    function refreshGate(request: FastifyRequest, reply: FastifyReply, done: HookHandlerDoneFunction): void {
      const { block } = (request as Guarded)[kFrom];
      whenSettled(on.counters.peek(charges(failureRules, block)), (known) => {
        if (!known.allowed) return done(limited(known.refusedBy));
        whenSettled(on.counters.take(charges(ipRules, block)), (verdict) => {
          showStanding(reply, rules, verdict);
          if (!verdict.allowed) return done(limited(verdict.refusedBy));
          const found = findBearer(request.headers.authorization, 'refresh');
          done('problem' in found ? new Problem(found.problem) : undefined);
        }, done);
      }, done);
    }

    function signedInGate(request: FastifyRequest, reply: FastifyReply, done: HookHandlerDoneFunction): void {
      if (access?.kind === 'signed-in-if-sent' && request.headers.authorization === undefined) return openGate(request, reply, done);
      const { block } = (request as Guarded)[kFrom];

      const fail = (problem: Error): void => whenSettled(on.counters.take(charges(ipRules, block)), (verdict) => {
        showStanding(reply, rules, verdict);
        done(verdict.allowed ? problem : limited(verdict.refusedBy));
      }, done);

      const pass = (caller: Caller): void => {
        (request as Guarded)[kCaller] = caller;
        whenSettled(on.revocations.isRevoked(caller.sessionId), (revoked) => {
          if (revoked) return fail(new Problem('token_revoked'));
          const asked = charges(ipRules, block);
          for (const rule of callerRules) asked.push({ rule, who: caller.userId });
          whenSettled(on.counters.take(asked), (verdict) => {
            showStanding(reply, rules, verdict);
            done(verdict.allowed ? lacking(access, caller) : limited(verdict.refusedBy));
          }, done);
        }, fail);
      };

      const known = charges(ipRules, block);
      for (const rule of failureRules) known.push({ rule, who: block });
      whenSettled(on.counters.peek(known), (verdict) => {
        if (!verdict.allowed) {
          showStanding(reply, rules, verdict);
          return done(limited(verdict.refusedBy));
        }
        const found = findBearer(request.headers.authorization, 'access');
        if ('problem' in found) return fail(new Problem(found.problem));
        try {
          whenSettled(on.tokens.read(found.token), pass, fail);
        } catch (error) {
          fail(error as Error); // only Problems and faults of ours are thrown, and both are Errors
        }
      }, done);
    }
  }

  /** The one place where a refusal becomes an answer. Failed authentications pay here, whichever gate or handler refused. */
  function refuse(error: unknown, request: FastifyRequest, reply: FastifyReply): void {
    if (!(request as Guarded)[kFrom]) dress(request, reply); // a path that Fastify could not read passed no hook
    const problem = problemOf(error, problems);
    const from = (request as Guarded)[kFrom];
    if (isAuthenticationFailure(problem.code)) void on.counters.take(charges(failureRules, from.block));
    const status = answerProblem(request, reply, problem, problems);
    on.onRefused?.({
      code: problem.code, status, reason: problem.reason, from, method: request.method,
      route: request.routeOptions.url, requestId: request.id,
      userId: request.callerIfSent?.userId, sessionId: request.callerIfSent?.sessionId,
      logged: problem.extra.logged ?? {}, error: status === 500 ? error : undefined,
    });
  }

  function lacking(access: Access | undefined, caller: Caller): Problem | undefined {
    if (access?.kind !== 'signed-in') return undefined;
    if (!access.scopes.every((scope) => caller.scopes.includes(scope))) return new Problem('scope_missing');
    if (access.freshWithinMs === undefined) return undefined;
    return clock.now() - caller.authenticatedAt < access.freshWithinMs ? undefined : new Problem('authentication_stale', undefined, { maxAgeS: access.freshWithinMs / 1_000 });
  }
}

const kGated = Symbol('gated');

/** Failing to say who one is: every 401 of the guard's own, but for a login that is merely too long ago. */
const isAuthenticationFailure = (code: string): boolean =>
  code !== 'authentication_stale' && Object.hasOwn(guardProblems, code) && guardProblems[code as keyof typeof guardProblems].status === 401;

/** The peer's address, worked out once a connection. */
function peerOf(request: FastifyRequest): ClientAddress {
  const socket: FastifyRequest['raw']['socket'] & { [kPeer]?: ClientAddress } = request.raw.socket;
  return (socket[kPeer] ??= clientAddress(socket.remoteAddress ?? '0.0.0.0'));
}

const isEncrypted = (request: FastifyRequest): boolean => 'encrypted' in request.raw.socket;

const forwardedFor = (request: FastifyRequest): string => [request.headers['x-forwarded-for'] ?? ''].flat().join(',');

const charges = (rules: readonly Rule[], who: string): Charge[] => rules.map((rule) => ({ rule, who }));

/** Goes on at once where the value is at hand, else when it has come. */
function whenSettled<T>(value: T | Promise<T>, next: (value: T) => void, failed: (error: Error) => void): void {
  if (value instanceof Promise) value.then(next, failed);
  else next(value);
}

const limited = (by: Standing): Problem => new Problem('rate_limited', by.rule.id, {
  retryAfterS: Math.max(1, Math.ceil(by.resetMs / 1_000)), violatedPolicies: [by.rule.name],
});

function passed(verdict: Verdict): void {
  if (!verdict.allowed) throw limited(verdict.refusedBy);
}

/** `RateLimit-Policy` names every rule of the route, `RateLimit` the one nearest to its end (draft-ietf-httpapi-ratelimit-headers-11). */
function showStanding(reply: FastifyReply, rules: readonly Rule[], verdict: Verdict): void {
  const standing = verdict.allowed ? verdict.tightest : verdict.refusedBy;
  if (!standing) return;
  reply.header('ratelimit-policy', policyOf(rules));
  reply.header('ratelimit', `"${standing.rule.name}";r=${standing.remaining};t=${Math.ceil(standing.resetMs / 1_000)}`);
}

const policies = new WeakMap<readonly Rule[], string>();

function policyOf(rules: readonly Rule[]): string {
  let text = policies.get(rules);
  if (text === undefined) {
    text = rules.map(({ name, limit }) => `"${name}";q=${limit.max};w=${Math.ceil(limit.windowMs / 1_000)}`).join(', ');
    policies.set(rules, text);
  }
  return text;
}
