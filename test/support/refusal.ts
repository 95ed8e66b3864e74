import assert from 'node:assert/strict';
import { type ProblemCode, problems } from '../../packages/server/src/domain/problem.ts';
import type { Answer } from './program.ts';

const uuid = /^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$/;

/** A refusal with this code, to the letter: status, headers, the members of RFC 9457 and ours, and not one more. */
export function assertRefused(answer: Answer, code: ProblemCode, what = ''): void {
  const row: (typeof problems)[ProblemCode] & { msg?: string; challenge?: string } = problems[code];
  const { headers, json, status } = answer;
  assert.equal(`${status} ${json?.code}`, `${row.status} ${code}`, `${what} ${answer.text}`);
  assert.equal(headers['content-type'], 'application/problem+json; charset=utf-8', what);
  assert.match(String(headers['x-request-id']), uuid, what);
  const { 'violated-policies': violated, ...members } = json;
  const named = code === 'body_invalid' && /^Of the body, this does not fit: [\w., -]+\. Nothing was changed\.$/.test(json.detail);
  assert.deepEqual(
    members,
    {
      type: `urn:portcullis:problem:${code}`,
      title: row.title,
      status: row.status,
      detail: named ? json.detail : row.detail,
      instance: `urn:uuid:${headers['x-request-id']}`,
      code,
      msg: row.msg ?? row.title,
      ...(status === 429 && { message: 'Too Many Requests' }),
    },
    what,
  );
  assert.equal(violated !== undefined, code === 'rate_limited', what);
  assert.equal(headers['retry-after'] !== undefined, status === 429 || status === 503, what);
  const challenge = row.challenge ? `, error="${row.challenge}", error_description="${row.msg ?? row.title}"` : '';
  assert.equal(headers['www-authenticate'], status === 401 || row.challenge ? `Bearer realm="portcullis"${challenge}` : undefined, what);
}

/** A refusal by a limit, and what the headers say of it: RateLimit draft 11, RFC 9110 section 10.2.3. */
export function assertLimited(answer: Answer, policy: string, max: number, windowS: number): void {
  assertRefused(answer, 'rate_limited');
  assert.deepEqual(answer.json['violated-policies'], [policy]);
  assert.match(String(answer.headers['retry-after']), /^[1-9]\d*$/);
  const wait = Number(answer.headers['retry-after']);
  assert.ok(
    wait <= windowS + (max > 32 ? Math.ceil(windowS / 32) : 0),
    `${wait} s: above 32 requests, times are rounded up to a 32nd of the window`,
  );
  assert.equal(answer.headers.ratelimit, `"${policy}";r=0;t=${wait}`);
  assert.ok(
    String(answer.headers['ratelimit-policy']).split(', ').includes(`"${policy}";q=${max};w=${windowS}`),
    String(answer.headers['ratelimit-policy']),
  );
}
