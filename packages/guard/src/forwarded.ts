/**
 * The elements of a `Forwarded` header (RFC 7239 section 4) from the right, each as its parameters by their names in lower
 * case. One that is none is `undefined`, and the last: what stands left of it is not looked at.
 *
 * It is read from the right because only that end was written by somebody we know. Whatever a caller left of it wrote, such as
 * a quote that is never closed, changes nothing of what is read before it is reached. Takes time linear in what is read.
 */
export function* forwardedElements(header: string): Generator<ReadonlyMap<string, string> | undefined, undefined> {
  for (let end = header.length; end >= 0;) {
    const start = startOfElement(header, end);
    const element = start === undefined ? undefined : readElement(header.slice(start, end));
    yield element;
    if (start === undefined || !element) return;
    end = start - 1; // the comma
  }
}

/** Behind the nearest comma that is in no quotes; `undefined` where quotes do not pair. */
function startOfElement(header: string, end: number): number | undefined {
  let at = end;
  for (; at > 0 && header[at - 1] !== ','; at--) {
    if (header[at - 1] !== '"') continue;
    at = openingQuote(header, at - 1) + 1;
    if (at === 0) return undefined;
  }
  return at;
}

/** -1 where there is none. A quote that opens a text stands behind `=`, never behind a backslash. */
function openingQuote(header: string, closing: number): number {
  let at = closing;
  do at = at > 0 ? header.lastIndexOf('"', at - 1) : -1;
  while (at > 0 && header[at - 1] === '\\');
  return at;
}

/** One `name=value` with its end; both may be missing, as in `for=_a;`. Blanks around `;` are against the grammar, and common. */
const PAIR = /[ \t]*(?:([\w!#$%&'*+.^`|~-]+)=(?:([\w!#$%&'*+.^`|~-]+)|"((?:[^"\\]|\\[^])*)")[ \t]*)?(;|$)/y;

function readElement(element: string): ReadonlyMap<string, string> | undefined {
  const pairs = new Map<string, string>();
  PAIR.lastIndex = 0;
  for (;;) {
    const found = PAIR.exec(element);
    if (!found) return undefined;
    const [, name, token, quoted = '', end] = found;
    if (name !== undefined) {
      if (pairs.has(name.toLowerCase())) return undefined; // "MUST NOT occur more than once"
      pairs.set(name.toLowerCase(), token ?? quoted.replace(/\\([^])/g, '$1'));
    }
    if (end === '') return pairs;
  }
}
