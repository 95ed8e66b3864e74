import type { Server as HttpServer } from 'node:http';
import { guard, memoryCounters, newRequestId, problemBody, securityHeaders } from '@portcullis/guard';
import type { FastifyServerFactoryHandler } from 'fastify';
import { problems, type unanswered } from './domain/problem.ts';
import type { House } from './house.ts';
import { tokenCookies } from './http/cookies.ts';
import { addCsrf } from './http/csrf.ts';
import { addClientCertificate } from './http/client-certificate.ts';
import { addDocsPage } from './http/docs-page.ts';
import { addHealth, type Readiness } from './http/health.ts';
import { addKeys } from './http/keys.ts';
import { addLogin } from './http/login.ts';
import { addLogout } from './http/logout.ts';
import { addOpenApi } from './http/openapi.ts';
import { addProtected } from './http/protected.ts';
import { addRefresh } from './http/refresh.ts';
import { makeServer, type Server } from './http/server.ts';
import type { WireOptions } from './http/wire.ts';
import { peerOf } from './http/wire/connections.ts';
import { refusalSums, wireRefused } from './lib/refusal-sums.ts';
import { randomBytes } from './lib/secret.ts';
import { serverLog } from './lib/server-log.ts';
import type { Settings } from './settings/table.ts';
import type { SharedLimits } from './share-limits.ts';

export type AppOptions = {
  readonly settings: Settings;
  readonly issuer: string;
  readonly house: House;
  readonly readiness: Readiness;
  readonly serverFactory: (handler: FastifyServerFactoryHandler) => HttpServer;
  /** Where limits are counted with others; without it, in this process. */
  readonly sharedLimits?: SharedLimits | undefined;
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
  sharedLimits,
}: AppOptions): Promise<{ app: Server; limitCounters: () => number; tend: () => void }> {
  const { services, securityLog, traffic } = house;
  const { clock } = services;
  const local = memoryCounters({ clock, maxKeys: settings.limitKeys, secret: randomBytes(32) });
  const troubles = refusalSums({ clock, tell: (line) => serverLog.warn(line, 'refused') });
  const app = makeServer(serverFactory);

  await app.register(guard, {
    tokens: house.tokens,
    revocations: services.revoked,
    counters: sharedLimits?.over(local) ?? local,
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
    ipv6Prefix: settings.ipv6Prefix,
    // Behind a PROXY header the proxy passes on whatever the caller wrote, so no header of a request is believed.
    ...(settings.trustedProxyHeader !== 'proxy-protocol' && {
      trustedProxies: settings.trustedProxies,
      trustedProxyHeader: settings.trustedProxyHeader,
    }),
    peer: ({ raw }) => peerOf(raw.socket),
    tls: settings.tlsAtProxy ? 'at-proxy' : 'own',
    problems,
    onAnswered: traffic.answered,
    onRefused(refusal) {
      traffic.refused(refusal);
      if (refusal.status === 500) serverLog.error({ err: refusal.error, requestId: refusal.requestId, route: refusal.route }, 'fault');
      else if (refusal.status === 503) troubles.add(refusal);
      else securityLog.refused(refusal);
    },
  });
  addClientCertificate(app);
  addOpenApi(app, issuer, settings);

  const cookies = settings.cookies ? tokenCookies(services, settings.cookieSamesite) : undefined;
  addLogin(app, services, texts(settings.loginLimits), cookies);
  addRefresh(app, services, texts(settings.refreshLimits), cookies);
  addLogout(app, services, texts(settings.logoutLimits), cookies);
  if (cookies) addCsrf(app, services);
  addProtected(app, texts(settings.protectedLimits));
  addKeys(app, services);
  addHealth(app, readiness);
  if (settings.docsPage) addDocsPage(app);
  await routes?.(app);
  await app.ready();
  return {
    app,
    limitCounters: local.size,
    tend() {
      local.sweep();
      troubles.tell();
    },
  };
}

const texts = (limits: Settings['loginLimits']): string[] => limits.map(({ text }) => text);

/** The answers to what never reaches Fastify, in the same form as every other, and logged like every other. */
export const wireRefusals =
  ({ securityLog, traffic }: Pick<House, 'securityLog' | 'traffic'>): WireOptions['refusal'] =>
  (code, overTls, from, reason) => {
    const row = problems[code];
    const id = newRequestId();
    const refusal = wireRefused(code, row.status, from, id, reason);
    traffic.refused(refusal);
    securityLog.refused(refusal);
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

/** A client that its certificate, or the want of one, kept from even asking. */
export const clientRefusals =
  ({ securityLog, traffic }: Pick<House, 'securityLog' | 'traffic'>): NonNullable<WireOptions['clientRefused']> =>
  (fault, from) => {
    const code: keyof typeof unanswered = 'client_certificate_refused';
    const refusal = wireRefused(code, 0, from, newRequestId(), fault);
    traffic.refused(refusal);
    securityLog.refused(refusal);
  };
