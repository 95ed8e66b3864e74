import type { FastifyReply, FastifyRequest } from 'fastify';
import { headOf } from './gate.ts';
import { type GuardProblemCode, Problem, problemBody, type ProblemRow, type ProblemTable } from './problem.ts';

/** What Fastify itself refuses, in our words. */
const fastifyCodes: Readonly<Record<string, GuardProblemCode>> = {
  FST_ERR_BAD_URL: 'path_malformed',
  FST_ERR_CTP_BODY_TOO_LARGE: 'body_too_large',
  FST_ERR_CTP_EMPTY_JSON_BODY: 'body_malformed',
  FST_ERR_CTP_INVALID_CONTENT_LENGTH: 'body_malformed',
  FST_ERR_CTP_INVALID_JSON_BODY: 'body_malformed',
  FST_ERR_CTP_INVALID_MEDIA_TYPE: 'media_type_unsupported',
  FST_ERR_MAX_PARAM_LENGTH: 'path_malformed',
  FST_ERR_NOT_FOUND: 'not_found',
  ECONNRESET: 'request_malformed',
};

/** Any error as a problem: one that was thrown as such, one of Fastify's refusals, or else a fault of ours. */
export function problemOf(error: unknown, problems: ProblemTable): Problem<string> {
  if (error instanceof Problem && Object.hasOwn(problems, error.code)) return error;
  const { code, validation, validationContext } = Object(error) as Thrown;
  if (Array.isArray(validation)) return unfitting(validation, validationContext);
  const own = fastifyCodes[String(code)];
  return own ? new Problem<string>(own) : new Problem<string>('internal', 'fault');
}

/** Whatever was thrown, looked at with care. */
type Thrown = { readonly code?: unknown; readonly validation?: unknown; readonly validationContext?: unknown };

const whereOf: Readonly<Record<string, string>> = { params: 'path', querystring: 'query', headers: 'headers' };

/** Which fields do not fit, by the names they have there, if those are plain; what was sent in them is not repeated. */
function unfitting(validation: readonly unknown[], context: unknown): Problem<string> {
  const isBody = context === undefined || context === 'body';
  const paths = new Set(
    validation.map((fault) => String(Object(fault).instancePath ?? '')).filter((path) => /^(\/[\w-]{1,40}){1,4}$/.test(path)),
  );
  const named = [...paths].slice(0, 5).map((path) => path.slice(1).replaceAll('/', '.'));
  const extra = named.length
    ? {
        detail: `Of the ${isBody ? 'body' : (whereOf[typeof context === 'string' ? context : ''] ?? 'parameters')}, this does not fit: ${named.join(', ')}. Nothing was changed.`,
      }
    : {};
  return new Problem<string>(isBody ? 'body_invalid' : 'parameters_invalid', undefined, extra);
}

/**
 * Sends a problem as its row says: RFC 9457 body, `WWW-Authenticate` on a 401 (RFC 9110 section 11.6.1), `Retry-After`.
 * @returns the status that was sent.
 */
export function answerProblem(request: FastifyRequest, reply: FastifyReply, problem: Problem<string>, problems: ProblemTable): number {
  const row = problems[problem.code];
  if (!row) throw new Error(`no row for the problem ${problem.code}`);
  const head = headOf(reply);
  // A handler may have said otherwise before it failed.
  const tell = (name: string, value: string): void => {
    if (reply.hasHeader(name)) reply.removeHeader(name);
    head.header(name, value);
  };
  if (reply.hasHeader('cache-control')) reply.header('cache-control', 'no-store');
  if (row.status === 401 || row.challenge) tell('www-authenticate', challenge(problem, row));
  if (problem.extra.retryAfterS !== undefined) tell('retry-after', String(problem.extra.retryAfterS));
  if (request.raw.httpVersionMajor === 2) reply.removeHeader('connection'); // Fastify's, on a body too large; HTTP/2 knows no such header
  reply
    .code(row.status)
    .header('content-type', 'application/problem+json; charset=utf-8')
    .send(bodyOf(problem, row, `urn:uuid:${request.id}`));
  return row.status;
}

/** Most refusals of one code differ in their instance alone, and in the names of the policies, which come last. */
function bodyOf({ code, extra }: Problem<string>, row: ProblemRow, instance: string): string {
  if (extra.detail !== undefined) return JSON.stringify(problemBody(code, row, instance, extra));
  const { before, after } = wordsOf(code, row);
  const body = `${before}${instance}${after}`;
  return extra.violatedPolicies ? `${body.slice(0, -1)},"violated-policies":${JSON.stringify(extra.violatedPolicies)}}` : body;
}

/** In no row's words. */
const INSTANCE = 'urn:uuid:00000000-0000-0000-0000-000000000000';

/** What refusals of a row have in common: their body around the instance, and the challenge. */
type Words = { readonly before: string; readonly after: string; readonly challenge: string };
const known = new WeakMap<ProblemRow, Words>();

function wordsOf(code: string, row: ProblemRow): Words {
  let words = known.get(row);
  if (!words) {
    const [before = '', after = ''] = JSON.stringify(problemBody(code, row, INSTANCE)).split(INSTANCE);
    // RFC 6750 section 3: no `error` where no token was sent.
    const error = row.challenge ? `, error="${row.challenge}", error_description="${row.msg ?? row.title}"` : '';
    known.set(row, (words = { before, after, challenge: `Bearer realm="portcullis"${error}` }));
  }
  return words;
}

function challenge({ code, extra }: Problem<string>, row: ProblemRow): string {
  const { challenge } = wordsOf(code, row);
  return extra.maxAgeS === undefined ? challenge : `${challenge}, max_age=${extra.maxAgeS}`;
}
