/** Cross-origin rules: which front ends a browser may let talk to this API (Fetch standard). */
export interface Cors {
  /** The origins that were named; everything else gets no CORS header at all. */
  readonly exact: ReadonlySet<string>;
  /** The value of `Access-Control-Expose-Headers`. */
  readonly exposed: string;
  /** Headers of the answer to a preflight from an allowed origin, for a path that takes these methods. */
  preflight(methods: readonly string[]): Record<string, string>;
}

/** What scripts of an allowed origin may send: a fixed list, never an echo of what was asked for. */
const ALLOWED_HEADERS = 'authorization, content-type, x-csrf-token, x-request-id';
/** What they may read beside the few headers that are always readable. */
const EXPOSED_HEADERS = 'Retry-After, RateLimit, RateLimit-Policy, X-Request-Id, WWW-Authenticate';

/**
 * @param on.origins exact origins (`https://app.example.com`): no `*`, no pattern, no `null`.
 * @param on.maxAgeMs how long a browser may remember the answer to a preflight.
 * @throws {Error} when an origin is not exact.
 */
export function cors(on: { origins: readonly string[]; maxAgeMs: number }): Cors {
  const origins = exactOrigins(on.origins);
  const maxAge = String(Math.floor(on.maxAgeMs / 1_000));

  return {
    exact: origins,
    exposed: EXPOSED_HEADERS,
    preflight: (methods) => ({
      'access-control-allow-methods': methods.join(', '),
      'access-control-allow-headers': ALLOWED_HEADERS,
      'access-control-max-age': maxAge,
    }),
  };
}

/** @throws {Error} when one is not exact: `*`, a pattern, `null`, anything that no browser would write in `Origin`. */
export function exactOrigins(origins: readonly string[]): ReadonlySet<string> {
  for (const origin of origins) {
    if (!URL.canParse(origin) || new URL(origin).origin !== origin)
      throw new Error(`"${origin}" is not an exact origin such as https://app.example.com`);
  }
  return new Set(origins);
}
