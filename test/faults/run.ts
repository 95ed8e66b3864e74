import { parseArgs } from 'node:util';
import { report } from './report.ts';
import { rows } from './rows.ts';

/** `node test/faults/run.ts [row …]`: the rows of the table at their full rounds. */
const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: { json: { type: 'boolean', default: false }, rounds: { type: 'string' } },
});
const unknown = positionals.filter((asked) => !rows.some(({ no }) => String(no) === asked));
if (unknown.length > 0) {
  console.error(
    `There is no row ${unknown.join(', ')}. There are ${[...new Set(rows.map(({ no }) => no))].join(', ')}; 14 is npm run soak.`,
  );
  process.exit(2);
}
const chosen = rows.filter(({ no }) => positionals.length === 0 || positionals.includes(String(no)));
await report(chosen, { json: values.json, rounds: values.rounds === undefined ? undefined : Number(values.rounds) });
