const invisible = /^[\p{M}\p{Cf}]+$/u;
/** East Asian wide and full-width letters, and what is drawn as a picture. */
const wide = /[\p{Script=Han}\p{Script=Hiragana}\p{Script=Katakana}\p{Script=Hangul}\p{Script=Bopomofo}\p{Script=Yi}\u3000-\u303e\uff01-\uff60\uffe0-\uffe6]|\p{Emoji_Presentation}|\uFE0F/u;

/** How many columns of a terminal the text takes. It holds no control characters. */
export function widthOf(text: string): number {
  if (/^[ -~]*$/.test(text)) return text.length;
  let width = 0;
  for (const { segment } of graphemesOf(text)) width += columnsOf(segment);
  return width;
}

/** The text, cut with "…" where it takes more columns than that. */
export function cutTo(text: string, columns: number): string {
  if (widthOf(text) <= columns) return text;
  let cut = '';
  let width = 0;
  for (const { segment } of graphemesOf(text)) {
    width += columnsOf(segment);
    if (width > columns - 1) break;
    cut += segment;
  }
  return `${cut}…`;
}

/** Its tables are read with the first one, and most texts are plain. */
const graphemesOf = (text: string): Iterable<Intl.SegmentData> => new Intl.Segmenter().segment(text);

const columnsOf = (segment: string): number => (invisible.test(segment) ? 0 : wide.test(segment) ? 2 : 1);
