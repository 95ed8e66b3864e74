import { styleText } from 'node:util';

/** Lines of cells under a head, the first column to the left and the others to the right. A cell's colour is for a terminal alone. */
export type Cell = string | { readonly text: string; readonly as: 'good' | 'bad' | 'quiet' };

const styles = { good: 'green', bad: 'red', quiet: 'dim' } as const;
const textOf = (cell: Cell): string => (typeof cell === 'string' ? cell : cell.text);

/** Colours only where `stream` shows them. */
export function tableOf(lines: readonly (readonly Cell[])[], stream: NodeJS.WriteStream = process.stdout): string {
  const widths = (lines[0] ?? []).map((_, column) => Math.max(...lines.map((line) => textOf(line[column] ?? '').length)));
  const paint = (cell: Cell, text: string): string =>
    typeof cell === 'string' ? text : styleText(styles[cell.as], text, { stream, validateStream: true });
  return lines
    .map((line) =>
      line
        .map((cell, column) => {
          const text = textOf(cell);
          return paint(cell, column ? text.padStart(widths[column] ?? 0) : text.padEnd(widths[column] ?? 0));
        })
        .join('  ')
        .trimEnd(),
    )
    .join('\n');
}
