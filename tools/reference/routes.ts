import { guardedRoutes } from '../../packages/server/src/cli/routes.ts';
import { readSettings } from '../../packages/server/src/settings/read.ts';

/** All routes with the settings' defaults as Markdown, for `docs/reference/routes.md`. */
export async function routesReference(): Promise<string> {
  const reading = readSettings({ mode: 'admin', env: {}, flags: {}, readFile: () => '' });
  if ('mistakes' in reading) throw new Error(reading.mistakes.join('; '));
  const rows = await guardedRoutes(reading.settings);
  return `# Routes

Who may call what, and how often, unless the settings say otherwise; \`portcullis routes\` shows it with yours. HEAD goes
wherever GET does and counts with it.

| route | access | limits | what it does |
| --- | --- | --- | --- |
${rows.map(({ method, path, access, limits, summary }) => `| \`${method} ${path}\` | ${access} | ${limits.join('; ')} | ${summary} |`).join('\n')}
`;
}
