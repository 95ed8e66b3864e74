/**
 * The headers of every answer, errors included. An API's answers are never rendered, framed, cached or referred from
 * (OWASP ASVS 5.0 V3.2.1, V3.4).
 */
const always = {
  'x-content-type-options': 'nosniff',
  'content-security-policy': "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; sandbox",
  'referrer-policy': 'no-referrer',
  'cross-origin-resource-policy': 'same-origin',
  'cache-control': 'no-store',
  vary: 'Origin',
} as const;

/** A year, with subdomains (RFC 6797; ASVS V3.4.1). */
const HSTS = 'max-age=31536000; includeSubDomains';

/** HSTS only where the answer itself travels over TLS: over plain HTTP it must not be sent (RFC 6797 section 7.2). */
export function securityHeaders(overTls: boolean): Readonly<Record<string, string>> {
  return overTls ? { 'strict-transport-security': HSTS, ...always } : always;
}
