import type { ProblemRow } from '@portcullis/guard';
import { problems } from './problem.ts';

/** `docs/reference/problems.md`: every refusal by its code. */
export function problemsReference(): string {
  const rows = Object.entries<ProblemRow>(problems).toSorted(
    ([a, { status: left }], [b, { status: right }]) => left - right || a.localeCompare(b),
  );
  return [
    '# Problems',
    '',
    'Every refusal is JSON by RFC 9457: `type title status detail instance`, and `code` (stable: branch on it), `msg` (the short text), on 429',
    '`message` and `violated-policies`. `instance` is the id of the request: it is in `X-Request-Id`, in the log and in the audit.',
    '',
    'A 401 carries `WWW-Authenticate` (RFC 6750), a 429 and a 503 carry `Retry-After` in seconds. The command line shows the same codes.',
    '',
    '| status | code | `msg` | what it means, what to do |',
    '| --- | --- | --- | --- |',
    ...rows.map(
      ([code, { status, title, msg, detail }]) =>
        `| ${status} | \`${code}\` | ${(msg ?? title).replaceAll('<', '&lt;')} | ${detail.replaceAll('<', '&lt;')} |`,
    ),
    '',
  ].join('\n');
}
