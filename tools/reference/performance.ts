import { existsSync, globSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { chartsOf } from '../../bench/charts.ts';
import { aboutMachine } from '../../bench/machine.ts';
import type { Results } from '../../bench/results.ts';
import { inMarkdown } from '../../bench/table.ts';
import { tablesOf } from '../../bench/tables.ts';

const root = join(import.meta.dirname, '../..');
const FOLDER = 'docs/performance';
const PAGE = `${FOLDER}.md`;

/**
 * What the runs that were published found (`npm run bench -- --publish`): the charts, and the page with the tables where it
 * says `<!-- bench: requests -->`. No figure of it is typed by hand.
 */
export function performancePages(): Record<string, string> {
  const runs = globSync(`${FOLDER}/*.json`, { cwd: root }).map((path) => JSON.parse(readFileSync(join(root, path), 'utf8')) as Results); // as publish wrote it
  const charts = runs.flatMap((run) => Object.entries(chartsOf(run)).map(([name, svg]) => [`${FOLDER}/${name}.svg`, svg]));
  const page = existsSync(join(root, PAGE)) ? readFileSync(join(root, PAGE), 'utf8') : '';
  const filled = page.replace(/(<!-- bench: (\w+) -->\n)[\s\S]*?(<!-- \/bench -->)/g, (_, before: string, what: string, after: string) => {
    const run = runs.find((run) => run.what === what);
    return before + (run ? `\n${sectionOf(run)}\n\n` : '') + after;
  });
  return { ...Object.fromEntries(charts), [PAGE]: filled };
}

function sectionOf(run: Results): string {
  const names = Object.keys(chartsOf(run));
  const parts = tablesOf(run).map((table, nth) => {
    const name = names[nth];
    return [...(name === undefined ? [] : [`![${name.replaceAll('-', ' ')}](performance/${name}.svg)`]), inMarkdown(table)].join('\n\n');
  });
  return [...parts, `\`${run.command}\`; ${aboutMachine(run.machine)}.`].join('\n\n');
}
