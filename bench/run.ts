import { writeFileSync } from 'node:fs';
import { parseArgs } from 'node:util';
import { type Bench, withBench } from './bench.ts';
import { measureBeside } from './beside.ts';
import { compare } from './compare.ts';
import { measureLadder } from './ladder.ts';
import { aboutMachine, machine } from './machine.ts';
import { measurePeers } from './peers.ts';
import { asJson, publish } from './publish.ts';
import { measureRequests } from './requests.ts';
import type { Found, Results } from './results.ts';
import { inColumns } from './table.ts';
import { tablesOf } from './tables.ts';

const HELP = `What it costs. Server CPU time for each request, beside Node's own HTTPS server.

npm run bench                        a protected request, in every setting and refused for every reason (three minutes)
npm run bench -- --ladder            what each gate adds
npm run bench -- --compare <commit>  that version beside the working tree
npm run bench -- --peers             others at the same work (installs them, once)
npm run bench -- --beside            start, memory, latencies under floods and logins

  --rounds <n>    more of them: surer, and longer
  --only <text>   with --compare: the rows with this in their names
  --json <file>   what was found, for a program
  --publish       what was found, into docs/performance
`;

const { values } = parseArgs({
  options: {
    ladder: { type: 'boolean' },
    compare: { type: 'string' },
    peers: { type: 'boolean' },
    beside: { type: 'boolean' },
    rounds: { type: 'string' },
    only: { type: 'string' },
    json: { type: 'string' },
    publish: { type: 'boolean' },
    help: { type: 'boolean' },
  },
});
const rounds = values.rounds === undefined ? undefined : Number(values.rounds);
if (rounds !== undefined && !(Number.isInteger(rounds) && rounds > 0)) throw new Error('--rounds is a whole number above 0');
if (values.help) console.log(HELP);
else await withBench(run);

async function run(bench: Bench): Promise<void> {
  const about = machine(); // before this run is itself the load
  const found = await find(bench);
  const results: Results = { ...found, command: commandOf(found), machine: about };
  for (const table of tablesOf(results)) console.log(`${inColumns(table)}\n`);
  console.log(aboutMachine(about));
  if (values.json !== undefined) writeFileSync(values.json, asJson(results));
  if (values.publish) publish(results);
}

/** What finds the same again, wherever that is then written to. */
function commandOf({ what }: Found): string {
  const { compare, only } = values;
  const asked = [
    ...(what === 'requests' ? [] : [`--${what}`]),
    ...(compare === undefined ? [] : [compare]),
    ...(rounds === undefined ? [] : [`--rounds ${rounds}`]),
    ...(only === undefined ? [] : [`--only '${only}'`]),
  ];
  return ['npm run bench', ...(asked.length > 0 ? ['--', ...asked] : [])].join(' ');
}

async function find(bench: Bench): Promise<Found> {
  if (values.compare !== undefined) {
    return { what: 'compare', ref: values.compare, rows: await compare(bench, values.compare, { rounds, only: values.only }) };
  }
  if (values.ladder) return { what: 'ladder', ladders: await measureLadder(bench, rounds) };
  if (values.peers) return { what: 'peers', rows: await measurePeers(bench, rounds) };
  if (values.beside) return { what: 'beside', lines: await measureBeside(bench, bench.tell) };
  return { what: 'requests', rows: await measureRequests(bench, rounds) };
}
