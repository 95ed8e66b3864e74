import type { Server as HttpServer } from 'node:http';
import { accessTokens, guard, memoryCounters, newRequestId, problemBody, securityHeaders } from '@portcullis/guard';
import type { FastifyServerFactoryHandler } from 'fastify';
import { problems } from './domain/problem.ts';
import type { House } from './house.ts';
import { tokenCookies } from './http/cookies.ts';
import { addCsrf } from './http/csrf.ts';
import { addHealth, type Readiness } from './http/health.ts';
import { addKeys } from './http/keys.ts';
import { addLogin } from './http/login.ts';
import { addLogout } from './http/logout.ts';
import { addOpenApi } from './http/openapi.ts';
import { addProtected } from './http/protected.ts';
import { addRefresh } from './http/refresh.ts';
import { makeServer, type Server } from './http/server.ts';
import type { WireOptions } from './http/wire.ts';
import { refusalSums, wireRefused } from './lib/refusal-sums.ts';
import { randomBytes } from './lib/secret.ts';
import type { SecurityLog } from './lib/security-log.ts';
import { serverLog } from './lib/server-log.ts';
import type { Settings } from './settings/table.ts';

export type AppOptions = {
  readonly settings: Settings;
  readonly issuer: string;
  readonly house: House;
  readonly readiness: Readiness;
  readonly serverFactory: (handler: FastifyServerFactoryHandler) => HttpServer;
  /** Routes beside the server's own, behind the same gates. */
  readonly routes?: (app: Server) => void | Promise<void>;
};

/** Every gate and every route, on one Fastify app. */
export async function makeApp({
  settings,
  issuer,
  house,
  readiness,
  serverFactory,
  routes,
}: AppOptions): Promise<{ app: Server; tend: () => void }> {
  const { services, securityLog } = house;
  const { clock } = services;
  const counters = memoryCounters({ clock, maxKeys: settings.limitKeys, secret: randomBytes(32) });
  const troubles = refusalSums({ clock, tell: (line) => serverLog.warn(line, 'refused') });
  const app = makeServer(serverFactory);

  await app.register(guard, {
    tokens: accessTokens({ issuer, audience: settings.audience, keys: services.keyRing, clock }),
    revocations: services.revoked,
    counters,
    clock,
    defaultLimits: texts(settings.defaultLimits).join('; '),
    authFailureLimits: texts(settings.authFailureLimits).join('; '),
    corsOrigins: settings.corsOrigins,
    corsMaxAgeMs: settings.corsMaxAgeMs,
    cookies: settings.cookies
      ? {
          sameSite: settings.cookieSamesite,
          ownOrigin: new URL(issuer).origin,
          csrf: services.csrfTokens,
          sessionOf: (token) => services.refreshTokens.read(token)?.sessionId,
        }
      : undefined,
    trustedProxies: settings.trustedProxies,
    tls: settings.tlsAtProxy ? 'at-proxy' : 'own',
    problems,
    onRefused(refusal) {
      if (refusal.status === 500) serverLog.error({ err: refusal.error, requestId: refusal.requestId, route: refusal.route }, 'fault');
      else if (refusal.status === 503) troubles.add(refusal);
      else securityLog.refused(refusal);
    },
  });
  await addOpenApi(app, issuer, settings);

  const cookies = settings.cookies ? tokenCookies(services, settings.cookieSamesite) : undefined;
  addLogin(app, services, texts(settings.loginLimits), cookies);
  addRefresh(app, services, texts(settings.refreshLimits), cookies);
  addLogout(app, services, texts(settings.logoutLimits), cookies);
  if (cookies) addCsrf(app, services);
  addProtected(app, texts(settings.protectedLimits));
  addKeys(app, services);
  addHealth(app, readiness);
  await routes?.(app);
  await app.ready();
  return {
    app,
    tend() {
      counters.sweep();
      troubles.tell();
    },
  };
}

const texts = (limits: Settings['loginLimits']): string[] => limits.map(({ text }) => text);

/** The answers to what never reaches Fastify, in the same form as every other, and logged like every other. */
export const wireRefusals =
  (log: Pick<SecurityLog, 'refused'>): WireOptions['refusal'] =>
  (code, overTls, address) => {
    const row = problems[code];
    const id = newRequestId();
    log.refused(wireRefused(code, row.status, address, id));
    return {
      status: row.status,
      reason: row.title,
      headers: {
        ...securityHeaders(overTls),
        'x-request-id': id,
        'content-type': 'application/problem+json; charset=utf-8',
        ...(code === 'method_not_allowed' && { allow: '' }), // CONNECT, for which there is no path, so none that takes another method
      },
      body: JSON.stringify(problemBody(code, row, `urn:uuid:${id}`)),
    };
  };
