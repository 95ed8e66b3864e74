// Writes docs/reference from the tables of the code, what was measured into docs/performance, and the example into the READMEs.
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { commandsReference } from './reference/commands.ts';
import { grafanaDashboard } from './reference/dashboard.ts';
import { metricsReference } from './reference/metrics.ts';
import { performancePages } from './reference/performance.ts';
import { problemsReference } from './reference/problems.ts';
import { routesReference } from './reference/routes.ts';
import { settingsReference } from './reference/settings.ts';

const root = fileURLToPath(new URL('..', import.meta.url));
const read = (path: string): string => (existsSync(root + path) ? readFileSync(root + path, 'utf8') : '');

const example = read('examples/own-routes/server.ts');
/** The block of code behind the comment that names its file. */
const withExample = (page: string): string =>
  page.replace(
    /(<!-- examples\/own-routes\/server\.ts -->\n```ts\n)[\s\S]*?(```)/,
    (_, before: string, after: string) => before + example + after,
  );

export const pages: Readonly<Record<string, string>> = {
  'docs/reference/settings.md': settingsReference(),
  'docs/reference/problems.md': problemsReference(),
  'docs/reference/routes.md': await routesReference(),
  'docs/reference/cli.md': commandsReference(),
  'docs/reference/metrics.md': metricsReference(),
  ...performancePages(),
  'docs/grafana-dashboard.json': grafanaDashboard(),
  'README.md': withExample(read('README.md')),
  'README.zh-TW.md': withExample(read('README.zh-TW.md')),
};

if (import.meta.main) {
  for (const [path, text] of Object.entries(pages)) {
    if (read(path) === text) continue;
    console.log(path);
    writeFileSync(root + path, text);
  }
}
