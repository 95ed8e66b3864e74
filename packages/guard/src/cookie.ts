import { Problem } from './problem.ts';

/** What a cookie of ours is called: bound by its prefix to this host, HTTPS and every path (RFC 6265bis section 4.1.3.2). */
export type CookieName = `__Host-${string}`;

export type SameSite = 'Strict' | 'Lax' | 'None';

/** Where each token lives in a browser. */
export const tokenCookieNames = {
  access: '__Host-portcullis-access',
  refresh: '__Host-portcullis-refresh',
} as const satisfies Record<string, CookieName>;

/**
 * The value that the `Cookie` header has under a name; `undefined` where it has none.
 * @throws {Problem} `cookie_duplicated`: which of two is ours nobody can say.
 */
export function findCookie(header: string | undefined, name: CookieName): string | undefined {
  const [value, ...more] = cookieValues(header, name);
  if (more.length > 0) throw new Problem('cookie_duplicated');
  return value;
}

/** Each value under a name. Ours are of characters that need no quoting, so nothing is decoded. */
export function cookieValues(header: string | undefined, name: CookieName): string[] {
  if (!header?.includes(name)) return [];
  const start = `${name}=`;
  return header.split(';').flatMap((pair) => {
    const text = pair.replace(/^[ \t]+/, ''); // not trim: it takes U+00A0 too, which a browser takes for part of a name without our prefix
    return text.startsWith(start) ? [text.slice(start.length)] : [];
  });
}

/** A `Set-Cookie` that no script can read. @param on.maxAgeS how long it is kept, in whole seconds; 0 removes it. */
export const cookie = (name: CookieName, value: string, on: { maxAgeS: number; sameSite: SameSite }): string =>
  `${name}=${value}; Path=/; Max-Age=${on.maxAgeS}; Secure; HttpOnly; SameSite=${on.sameSite}`;
