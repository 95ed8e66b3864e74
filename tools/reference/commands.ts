import { flagOf } from '../../packages/server/src/settings/table.ts';
import type { Command } from '../../packages/server/src/cli/command.ts';
import { commands, commonOptions, exitCodes } from '../../packages/server/src/cli/commands.ts';
import { titleOf } from '../../packages/server/src/cli/print.ts';
import { dashed, settingsOf } from '../../packages/server/src/cli/program.ts';

/** All commands as Markdown, for `docs/reference/cli.md`. */
export function commandsReference(): string {
  return `# Commands

\`portcullis COMMAND --help\` says the same in a terminal. Here and in the how-tos \`portcullis\` is, from the checkout in \`$CHECKOUT\` and with
the server's settings in the file \`env\` of the folder \`$DIR\` ([as set up in the README](../../README.md#for-real)),

\`\`\`sh
portcullis() { (set -a; . "$DIR/env"; exec node "$CHECKOUT/packages/server/bin/portcullis.mjs" "$@"); }
\`\`\`

Run it as the user that the server runs as: whatever it makes (a store, a log, a copy) must be that user's, or the server cannot write to it.

${commands.map(({ name, summary }) => `- [\`${name}\`](#${name.replaceAll(' ', '-')}): ${summary.charAt(0).toLowerCase()}${summary.slice(1)}`).join('\n')}

They work on the store beside a running server or without one. Those that look after a store need to know where it is
(\`PORTCULLIS_DATA_DIR\` or \`--data-dir\`), and no certificate, issuer or secret; what touches keys needs the master secret.

All but \`dev\` and \`serve\` take

${Object.entries(commonOptions)
  .map(([name, says]) => `- \`--${name}\`: ${says}`)
  .join('\n')}

| exit code | means |
| --- | --- |
${exitCodes.map(([code, means]) => `| ${code} | ${means} |`).join('\n')}

${commands.map(section).join('\n\n')}
`;
}

function section(command: Command): string {
  const { name, summary, about = [], args = {}, options = {}, columns, examples } = command;
  const words = Object.entries(args).map(([word, { optional }]) => (optional ? `[${word.toUpperCase()}]` : word.toUpperCase()));
  const taken: string[][] = [
    ...Object.entries(args).map(([word, { says }]) => [word.toUpperCase(), says]),
    ...Object.entries(options).map(([word, { takes, oneOf, says }]) => [
      `--${dashed(word)}${takes === undefined ? '' : ` ${takes}`}`,
      oneOf ? `${says} One of ${oneOf.join(', ')}.` : says,
    ]),
  ];
  const settings =
    command.settings === 'all'
      ? 'Every [setting](settings.md) but the secrets is an option too.'
      : `Settings: ${settingsOf(command)
          .map((row) => `\`${flagOf(row)}\``)
          .join(', ')}.`;
  return [
    `## ${name}`,
    `${summary}. \`portcullis ${[name, ...words].join(' ')}\``,
    ...about,
    ...(taken.length
      ? [`| takes | |\n| --- | --- |\n${taken.map(([what = '', says = '']) => `| \`${what}\` | ${says} |`).join('\n')}`]
      : []),
    settings,
    ...(columns
      ? [
          `Shows: ${columns.map((column) => (column.hidden ? `\`${column.key}\` (JSON only)` : titleOf(column) === column.key ? `\`${column.key}\`` : `${titleOf(column)} (\`${column.key}\`)`)).join(', ')}.`,
        ]
      : []),
    `\`\`\`sh\n${examples.map(([line, says]) => `portcullis ${line}  # ${says}`).join('\n')}\n\`\`\``,
  ].join('\n\n');
}
