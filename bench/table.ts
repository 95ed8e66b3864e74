import { styleText } from 'node:util';

/** The colour of a cell is for a terminal alone. */
export type Cell = string | { readonly text: string; readonly as: keyof typeof styles };
/** The first is the head. */
export type Lines = readonly (readonly Cell[])[];

const styles = { good: 'green', bad: 'red', quiet: 'dim' } as const;
const textOf = (cell: Cell = ''): string => (typeof cell === 'string' ? cell : cell.text);

/** In columns: the first to the left, the others to the right, words to the left. In colours where standard output shows them. */
export function inColumns(lines: Lines): string {
  const [head = [], ...rest] = lines;
  const widths = head.map((_, column) => Math.max(...lines.map((line) => textOf(line[column]).length)));
  const isText = head.map((_, column) => column === 0 || !rest.some((line) => /^-?\d/.test(textOf(line[column]))));
  return lines
    .map((line) =>
      line
        .map((cell, column) => {
          const [text, width = 0] = [textOf(cell), widths[column]];
          const padded = isText[column] ? text.padEnd(width) : text.padStart(width);
          return typeof cell === 'string' ? padded : styleText(styles[cell.as], padded, { stream: process.stdout });
        })
        .join('  ')
        .trimEnd(),
    )
    .join('\n');
}

/** For a page. */
export const inMarkdown = (lines: Lines): string =>
  [
    ...lines.slice(0, 1),
    (lines[0] ?? []).map(() => '---'),
    ...lines.slice(1).map((line) => line.map((cell) => (textOf(cell) === 'not held' ? '**not held**' : cell))),
  ]
    .map((line) => `| ${line.map((cell) => textOf(cell).replaceAll('|', '\\|')).join(' | ')} |`.replaceAll(/\|  (?=\|)/g, '| '))
    .join('\n');
