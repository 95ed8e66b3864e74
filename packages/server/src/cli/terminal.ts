import { styleText } from 'node:util';

/** Where a command speaks: what was asked for goes to `out`, everything else to `err`. */
export type Terminal = { readonly out: Voice; readonly err: Voice };

export type Voice = {
  line(text?: string): void;
  /** Without a line end. */
  write(text: string): void;
  /** The text in a style, where somebody sees it who wants colours; else as it is. */
  paint(style: Style, text: string): string;
  /** Whether a person sees it, and not a file or a program. */
  readonly isTty: boolean;
  readonly hasColour: boolean;
  /** Columns; `undefined` where there is no end. */
  readonly width: number | undefined;
};

export type Style = Parameters<typeof styleText>[0];

/** As much of a standard stream as is asked of it. */
export type Stream = { write(text: string): unknown; readonly isTTY?: boolean; readonly columns?: number };

export function terminal(streams: { readonly stdout: Stream; readonly stderr: Stream }, env: Readonly<Record<string, string | undefined>>): Terminal {
  const mayColour = !env.NO_COLOR && env.TERM !== 'dumb'; // no-color.org: set and not empty
  return { out: voice(streams.stdout, mayColour), err: voice(streams.stderr, mayColour) };
}

function voice(stream: Stream, mayColour: boolean): Voice {
  const isTty = stream.isTTY === true;
  const hasColour = isTty && mayColour;
  return {
    isTty, hasColour,
    get width() { return isTty && stream.columns ? stream.columns : undefined; },
    line: (text = '') => void stream.write(`${text}\n`),
    write: (text) => void stream.write(text),
    paint: (style, text) => (hasColour && text !== '' ? styleText(style, text, { validateStream: false }) : text),
  };
}
