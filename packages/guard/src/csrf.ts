import type { IncomingHttpHeaders } from 'node:http';
import type { SameSite } from './cookie.ts';
import { exactOrigins } from './cors.ts';
import { Problem } from './problem.ts';

/** What the guard must know to believe a token that came in a cookie. */
export type CookieOptions = {
  readonly sameSite: SameSite;
  /** This API's own origin, as a browser writes it. It is said here and never taken from `Host`, which anyone may send. */
  readonly ownOrigin: string;
  /** Tokens that only a page which may read our answers can know, each bound to one session. */
  readonly csrf: { matches(sessionId: string, sent: string): boolean };
  /** The session of a refresh token that is really ours, ended or not; `undefined` for any other text. */
  sessionOf(refreshToken: string): string | undefined;
};

type Asked = { readonly method: string; readonly headers: IncomingHttpHeaders };

/** Gate 6: a browser adds cookies by itself, so a request that lives on one must show that a page of ours has sent it. */
export interface Csrf {
  /**
   * From a page of our own origin or of an allowed one, by the browser's word, which no page can change.
   * @throws {Problem} `origin_refused`
   */
  assertOwnOrigin(request: Asked): void;
  /**
   * The same, and that the page knows the token of this session. A safe method (RFC 9110 section 9.2.1) changes nothing, and
   * CORS keeps its answer from strangers, so it passes.
   * @throws {Problem} `origin_refused`, `csrf_missing`, `csrf_invalid`
   */
  assertOwnPage(request: Asked, sessionId: string): void;
}

/** @throws {Error} when an origin is not exact. */
export function csrf({ sameSite, ownOrigin, csrf: tokens }: CookieOptions, allowedOrigins: readonly string[]): Csrf {
  const origins = exactOrigins([ownOrigin, ...allowedOrigins]);
  const sites = sameSite === 'None' ? [...OWN_SITES, 'cross-site'] : OWN_SITES;

  function assertOwnOrigin({ headers: { origin, 'sec-fetch-site': site } }: Asked): void {
    if (origin === undefined) throw new Problem('origin_refused', 'no origin');
    const logged = { origin: LOGGED_ORIGIN.test(origin) && origin.length <= 200 ? origin : 'of no form that a browser sends' };
    if (!origins.has(origin)) throw new Problem('origin_refused', 'origin', { logged });
    if (site !== undefined && !sites.includes(String(site))) throw new Problem('origin_refused', 'fetch site', { logged });
  }

  return {
    assertOwnOrigin,
    assertOwnPage(request, sessionId) {
      if (SAFE_METHODS.includes(request.method)) return;
      assertOwnOrigin(request);
      const sent = request.headers['x-csrf-token'];
      if (sent === undefined || sent === '') throw new Problem('csrf_missing');
      if (!tokens.matches(sessionId, String(sent))) throw new Problem('csrf_invalid');
    },
  };
}

/** As a browser writes it: in lower case, so that nobody can bring a token into the log by it. */
const LOGGED_ORIGIN = /^(null|[a-z-]+:\/\/[a-z\d.-]*(:\d{1,5})?)$/;

const SAFE_METHODS: readonly string[] = ['GET', 'HEAD', 'OPTIONS'];

/** What browsers that send `Sec-Fetch-Site` say of pages of our own site; `none`: of what the user himself began. */
const OWN_SITES: readonly string[] = ['same-origin', 'same-site', 'none'];
