import type { ProblemRow } from '@portcullis/guard';
import { problems, unanswered } from '../../packages/server/src/domain/problem.ts';

/** `docs/reference/problems.md`: every refusal by its code. */
export function problemsReference(): string {
  const rows = Object.entries<ProblemRow>(problems).toSorted(
    ([a, { status: left }], [b, { status: right }]) => left - right || a.localeCompare(b),
  );
  return [
    '# Problems',
    '',
    'Every refusal is JSON by RFC 9457: `type title status detail instance`, and `code` (stable: branch on it), `msg` (the short text), on 429',
    '`message`, and of a limit `violated-policies`. `instance` is the id of the request, as in `X-Request-Id`.',
    '',
    'The first refusal of a code from an address block in a minute is in the security log with its id; the others are summed in one line a minute,',
    'which carries the last id. 503s go to standard error in the same way, faults (500) each with its id; logins, logouts and replays are in the audit with theirs.',
    '[Read the logs](../how-to/read-the-logs.md) says how to find one.',
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
    'Without an answer, and so with status 0 and only in the security log and the metrics:',
    '',
    '| code | what it means |',
    '| --- | --- |',
    ...Object.entries(unanswered).map(([code, says]) => `| \`${code}\` | ${says} |`),
    '',
  ].join('\n');
}
