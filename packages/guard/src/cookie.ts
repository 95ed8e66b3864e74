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

/**
 * Each value under a name. Ours are of characters that need no quoting, so nothing is decoded. A name begins where a browser
 * lets it begin: behind `;` and blanks, of which U+00A0 is none, for there a browser sees a name without our prefix.
 */
export function cookieValues(header: string | undefined, name: CookieName): string[] {
  const values: string[] = [];
  if (header === undefined) return values;
  const start = `${name}=`;
  for (let at = header.indexOf(start); at >= 0; at = header.indexOf(start, at + start.length)) {
    let before = at - 1;
    while (header[before] === ' ' || header[before] === '\t') before -= 1;
    if (before >= 0 && header[before] !== ';') continue;
    const end = header.indexOf(';', at);
    values.push(header.slice(at + start.length, end < 0 ? undefined : end).replace(/[ \t]+$/, ''));
  }
  return values;
}

/** A `Set-Cookie` that no script can read. @param on.maxAgeS how long it is kept, in whole seconds; 0 removes it. */
export const cookie = (name: CookieName, value: string, on: { maxAgeS: number; sameSite: SameSite }): string =>
  `${name}=${value}; Path=/; Max-Age=${on.maxAgeS}; Secure; HttpOnly; SameSite=${on.sameSite}`;
