/** One row of the table of problems: everything a caller may see of a refusal. */
export type ProblemRow = {
  /** HTTP status. */
  readonly status: number;
  /** RFC 9457 `title`: the same for every occurrence. */
  readonly title: string;
  /** RFC 9457 `detail`: a sentence that helps the caller, with nothing of our insides in it. */
  readonly detail: string;
  /** The short text of the original API's `msg`; where it is left out, the title serves. */
  readonly msg?: string;
  /** The `error` attribute of `WWW-Authenticate: Bearer` (RFC 6750 section 3.1), on a 401 or 403. */
  readonly challenge?: 'invalid_token' | 'insufficient_scope' | 'insufficient_user_authentication';
};

export type ProblemTable = Readonly<Record<string, ProblemRow>>;

/** Every refusal that the gates themselves can give. A server spreads this into its own table. */
export const guardProblems = {
  // Gate 1, wire
  https_required: { status: 400, title: 'HTTPS required', detail: 'This port speaks HTTPS only. Ask again with https://; a token sent in clear should be considered lost. Where a proxy ends TLS, it must be a declared one and say in its header that the caller used HTTPS.' },
  proxy_header_invalid: { status: 400, title: 'Invalid PROXY header', detail: 'The connection of a declared proxy does not begin with a PROXY header. It is closed, and this answer is only logged.' },
  request_malformed: { status: 400, title: 'Malformed request', detail: 'The request is not valid HTTP.' },
  host_invalid: { status: 400, title: 'Invalid Host', detail: 'Send exactly one Host header, a name or address with an optional port.' },
  header_duplicated: { status: 400, title: 'Duplicated header', detail: 'The Authorization header may be sent only once.' },
  request_timeout: { status: 408, title: 'Request Timeout', detail: 'The request did not arrive in time.' },
  expectation_failed: { status: 417, title: 'Expectation Failed', detail: 'The only expectation that is met is 100-continue.' },
  headers_too_large: { status: 431, title: 'Request Header Fields Too Large', detail: 'The request line and headers together may not exceed 16 KiB.' },
  encoding_unsupported: { status: 415, title: 'Unsupported Content-Encoding', detail: 'Send the body without a Content-Encoding.' },
  path_malformed: { status: 400, title: 'Malformed path', detail: 'The path of the request cannot be decoded.' },
  not_found: { status: 404, title: 'Not Found', detail: 'There is nothing at this path.' },
  method_not_allowed: { status: 405, title: 'Method Not Allowed', detail: 'The Allow header names the methods that this path takes.' },

  // Gate 4, token
  token_missing: { status: 401, title: 'Token missing', msg: 'Missing Authorization Header', detail: "Send 'Authorization: Bearer <access token>'. With cookies, POST /refresh gives a new one; or log in." },
  authorization_scheme: { status: 401, title: 'Wrong authorization scheme', msg: "Missing 'Bearer' type in 'Authorization' header. Expected 'Authorization: Bearer <JWT>'", detail: 'Only the Bearer scheme is understood.' },
  authorization_malformed: { status: 401, title: 'Malformed Authorization header', msg: "Bad Authorization header. Expected 'Authorization: Bearer <JWT>'", detail: 'Send the word Bearer, one space and the token, nothing else.' },
  access_token_required: { status: 401, title: 'Access token required', msg: 'Only non-refresh tokens are allowed', detail: 'This route takes an access token; a refresh token is only for /refresh.', challenge: 'invalid_token' },
  refresh_token_required: { status: 401, title: 'Refresh token required', msg: 'Only refresh tokens are allowed', detail: 'This route takes a refresh token, the one that begins with prt_.', challenge: 'invalid_token' },
  token_invalid: { status: 401, title: 'Token is invalid', detail: 'The token was not issued here, was changed, or is not meant for this service. Log in again.', challenge: 'invalid_token' },
  token_key_gone: { status: 401, title: 'Token is invalid', detail: 'The key that signed this token is no longer trusted. Use the refresh token to get a new one.', challenge: 'invalid_token' },
  token_expired: { status: 401, title: 'Token has expired', detail: 'Use the refresh token to get a new one, or log in again.', challenge: 'invalid_token' },

  // Gate 5, counters and revocation
  rate_limited: { status: 429, title: 'Too Many Requests', detail: 'A limit of this route is used up. Ask again after the seconds that Retry-After says.' },
  token_revoked: { status: 401, title: 'Token has been revoked', detail: 'The session of this token has ended. Log in again.', challenge: 'invalid_token' },

  // Gate 6, CSRF: only where a token came in a cookie, and at a cookie login
  cookie_duplicated: { status: 400, title: 'Duplicated cookie', detail: 'The Cookie header has two cookies of one name. Remove the cookies of this site in the browser, then log in again.' },
  origin_refused: { status: 403, title: 'Origin refused', detail: 'With cookies, an Origin header must name this server or a front end that CORS_ORIGINS allows, on the same site. Other programs log in with "transport": "bearer".' },
  csrf_missing: { status: 403, title: 'CSRF token missing', detail: 'Send the X-CSRF-Token of the login answer or of GET /csrf.' },
  csrf_invalid: { status: 403, title: 'CSRF token is invalid', detail: 'This X-CSRF-Token belongs to another session. Ask GET /csrf for the one of this session and send that, once.' },

  // Gate 7, access
  scope_missing: { status: 403, title: 'Insufficient scope', detail: 'The token does not have a scope that this route demands.', challenge: 'insufficient_scope' },
  authentication_stale: { status: 401, title: 'Recent authentication required', detail: 'This route demands a recent login. Log in again, then repeat the request.', challenge: 'insufficient_user_authentication' },

  // After the gates: the body
  body_malformed: { status: 400, title: 'Malformed body', detail: 'The body is not one JSON document in UTF-8 without a byte order mark, nested at most 16 deep, free of __proto__ and constructor.prototype keys.' },
  body_invalid: { status: 400, title: 'Invalid body', detail: 'The body does not have the fields that this route takes.' },
  parameters_invalid: { status: 400, title: 'Invalid parameters', detail: 'A parameter of the path or the query, or a header, does not fit this route.' },
  body_too_large: { status: 413, title: 'Content Too Large', detail: 'The body is larger than this route takes.' },
  media_type_unsupported: { status: 415, title: 'Unsupported Media Type', detail: 'Send the body as application/json, in UTF-8.' },

  // Our own trouble
  internal: { status: 500, title: 'Internal Server Error', detail: 'Something went wrong here. The instance id finds it in the log.' },
  unavailable: { status: 503, title: 'Service Unavailable', detail: 'The answer cannot be given safely right now. Ask again after the seconds that Retry-After says.' },
} as const satisfies ProblemTable;

export type GuardProblemCode = keyof typeof guardProblems;

/** What one occurrence adds to its row. */
export type ProblemExtra = {
  /** Whole seconds, sent as `Retry-After` (RFC 9110 section 10.2.3). */
  readonly retryAfterS?: number;
  /** Replaces the row's `detail`: which fields do not fit, by plain names. Nothing else of what was sent. */
  readonly detail?: string;
  /** Facts for the log alone, already free of anything a log may not hold. */
  readonly logged?: Readonly<Record<string, string>>;
  /** Names of the rate-limit policies that refused. */
  readonly violatedPolicies?: readonly string[];
  /** Seconds, sent as `max_age` in the challenge (RFC 9470). */
  readonly maxAgeS?: number;
};

/**
 * A refusal, by its code. The status is never chosen where it is thrown: the table says it.
 * `reason` is for the log and the audit alone, and must hold no credential; the caller never sees it.
 */
export class Problem<Code extends string = GuardProblemCode> extends Error {
  readonly code: Code;
  readonly reason: string | undefined;
  readonly extra: ProblemExtra;

  constructor(code: Code, reason?: string, extra: ProblemExtra = {}) {
    // No stack: a refusal is nobody's fault, and taking one is a good part of what a flood of refusals costs.
    const { stackTraceLimit } = Error;
    Error.stackTraceLimit = 0;
    super(reason === undefined ? code : `${code}: ${reason}`);
    Error.stackTraceLimit = stackTraceLimit;
    this.name = 'Problem';
    this.code = code;
    this.reason = reason;
    this.extra = extra;
  }
}

/**
 * A problem that says nothing of its request: made once, frozen, and handed back each time. To make an error, and more so to throw
 * one, costs more than all the gates together.
 * @param reason one of a fixed set, never anything that was sent: each is kept.
 */
export function refusal(code: GuardProblemCode, reason = ''): Problem {
  const ofCode = refusals.getOrInsertComputed(code, () => new Map());
  return ofCode.getOrInsertComputed(reason, () => Object.freeze(new Problem(code, reason || undefined, Object.freeze({}))));
}

/** Failing to say who one is: every 401 of the guard's own, but for a login that is merely too long ago. */
export const isAuthenticationFailure = (code: string): boolean =>
  authenticationFailures.has(code);

const authenticationFailures: ReadonlySet<string> = new Set(
  Object.entries(guardProblems).flatMap(([code, { status }]) => (status === 401 && code !== 'authentication_stale' ? [code] : [])),
);

const refusals = new Map<GuardProblemCode, Map<string, Problem>>();

/** For whoever expects a refusal to be thrown: then it is one of his own, that he may do with as he likes. */
export function orThrow<T>(value: T | Problem): T {
  if (value instanceof Problem) throw new Problem(value.code, value.reason, value.extra);
  return value;
}

/** What was thrown, if it is a refusal; anything else is thrown on. */
export function refusalIn(error: unknown): Problem {
  if (error instanceof Problem) return error;
  throw error;
}

/** The body of a refusal: RFC 9457, with `code` and the original API's `msg` (and `message` on 429) beside it. */
export function problemBody(code: string, row: ProblemRow, instance: string, extra: ProblemExtra = {}): Record<string, unknown> {
  return {
    type: `urn:portcullis:problem:${code}`,
    title: row.title,
    status: row.status,
    detail: extra.detail ?? row.detail,
    instance,
    code,
    msg: row.msg ?? row.title,
    ...(row.status === 429 && { message: 'Too Many Requests' }),
    ...(extra.violatedPolicies && { 'violated-policies': extra.violatedPolicies }),
  };
}
