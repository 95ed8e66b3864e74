import { demands, flagOf, keyOf, type Row, table, variableOf } from '../../packages/server/src/settings/table.ts';

/** The table as Markdown, for `docs/reference/settings.md`. */
export function settingsReference(): string {
  const rows: readonly Row[] = table;
  const example = rows.find((row) => row.name === 'accessTokenTtlMs') ?? table[0];
  return `# Settings

A setting is read from, in order: its default, the JSON file that \`PORTCULLIS_CONFIG_FILE\` names, the environment, the
command line; the last that has it counts. \`${variableOf(example)}\` in the environment is \`"${keyOf(example)}"\` in the file and
\`${flagOf(example)}\` on the command line, and so for all of them. A secret can also be the content of a file, named by the
variable with \`_FILE\` at its end; on the command line it is refused.

Every mistake in them is reported at once, and nothing listens until there is none. \`portcullis config\` shows each value and
where it came from.

| setting | default | takes | what it is |
| --- | --- | --- | --- |
${rows.map((row) => `| ${code(variableOf(row))} | ${defaults(row)} | ${cell(row.kind.takes)} | ${cell(row.says)} |`).join('\n')}

Beside that:

${demands.map((demand) => `- ${code(variableOf(rows.find((row) => row.name === demand.of[0]) ?? table[0]))}${demand.under ? ` under \`portcullis ${demand.under}\`` : ''}: ${demand.says}.`).join('\n')}
`;
}

function defaults(row: Row): string {
  if (row.madeBy) return 'not set; dev: makes one';
  const usual = row.default === undefined ? 'not set' : row.default === '' ? 'empty' : code(row.default);
  return row.dev === undefined ? usual : `${usual}; dev: ${code(row.dev)}`;
}

const code = (text: string): string => `\`${cell(text)}\``;

const cell = (text: string): string => text.replaceAll('|', '\\|');
