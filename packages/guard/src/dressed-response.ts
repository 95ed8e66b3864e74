import type { IncomingMessage } from 'node:http';

// An `import` of it would read each of its names, and one of them brings in the client behind `fetch`.
const { ServerResponse } = process.getBuiltinModule('node:http');

/** What can be told to the head of an answer: a Fastify reply, or a {@link DressedResponse}. */
export type Head = { header(name: string, value: string): unknown };

/** Headers that are the same for many answers; names in lower case. */
export type Attire = { readonly headers: Readonly<Record<string, string>>; readonly text: string };

export const attire = (headers: Readonly<Record<string, string>>): Attire => ({ headers, text: textOf(headers) });

/**
 * An answer of HTTP/1.1 that takes the guard's headers as text, and not one by one through Fastify and Node, which look
 * at each character of each of them for every answer: for the option `ServerResponse` of Node's servers, in Fastify
 * `http: { ServerResponse: DressedResponse }`. A header that a handler sets replaces the guard's of that name. On any other
 * kind of answer the guard sets its headers by {@link Head.header}.
 */
export class DressedResponse<Request extends IncomingMessage = IncomingMessage> extends ServerResponse<Request> implements Head {
  #worn = nothing;
  /** Names and values in turn: so few are found sooner than in anything that looks them up. */
  #told: string[] = [];
  #onHead: (() => void) | undefined;

  /** The values must be good in a header: they are not looked at. */
  wear(worn: Attire): void {
    this.#worn = worn;
  }

  /** One more, or another value in place of the one before. Its name is in lower case, and its value good in a header: it is not looked at. */
  header(name: string, value: string): void {
    const told = this.#told;
    const at = placeOf(name, told);
    if (at === told.length) told.push(name, value);
    else told[at + 1] = value;
  }

  /** Calls once, when the head is written; see {@link onHead}. */
  onHead(written: () => void): void {
    this.#onHead = written;
  }

  /** Node's own, by which it writes each head: other lines may follow `first`, the status line. */
  _storeHeader(first: string, set: unknown): void {
    if (typeof set === 'object' && !Array.isArray(set)) for (const name of Object.keys(set ?? {})) this.#takeOff(name);
    else for (const name of namesIn(set)) this.#takeOff(name);
    const told = this.#told;
    let text = '';
    for (let i = 0; i < told.length; i += 2) {
      this.#undress(told[i]!);
      text += `${told[i]}: ${told[i + 1]}\r\n`;
    }
    storeHeader.call(this, first + this.#worn.text + text, set);
    this.#onHead?.();
  }

  #takeOff(name: string): void {
    if (name === 'content-type' || name === 'content-length') return; // on nearly every answer, and never the guard's
    const lower = name.toLowerCase();
    this.#undress(lower);
    const at = placeOf(lower, this.#told);
    if (at < this.#told.length) this.#told.splice(at, 2);
  }

  #undress(name: string): void {
    if (name in this.#worn.headers) this.#worn = attire(without(name, this.#worn.headers));
  }
}

/** Calls when the head of an answer is written, by whomever: from then on its status is what it is. */
export function onHead(response: InstanceType<typeof ServerResponse>, written: () => void): void {
  if (response instanceof DressedResponse) return response.onHead(written);
  const { writeHead } = response;
  response.writeHead = (...head: unknown[]) => {
    const said = Reflect.apply(writeHead, response, head);
    written();
    return said;
  };
}

/** Of a name among names and values in turn; their end where it is not there. */
function placeOf(name: string, told: readonly string[]): number {
  let at = 0;
  while (at < told.length && told[at] !== name) at += 2;
  return at;
}

const nothing = attire({});

/** Without it Node would leave the guard's headers out, so it is better not to start. */
const storeHeader: (first: string, set: unknown) => void = Reflect.get(ServerResponse.prototype, '_storeHeader');
if (typeof storeHeader !== 'function') throw new Error('this version of Node writes the heads of answers in another way');

function textOf(headers: Readonly<Record<string, string>>): string {
  let text = '';
  for (const name in headers) text += `${name}: ${headers[name]}\r\n`;
  return text;
}

/** Of the lists that `writeHead` takes: of pairs, or of names and values in turn. */
const namesIn = (set: unknown): string[] =>
  Array.isArray(set) ? (Array.isArray(set[0]) ? set.map(([name]) => name) : set.filter((_, i) => i % 2 === 0)).map(String) : [];

const without = (name: string, headers: Readonly<Record<string, string>>): Record<string, string> =>
  Object.fromEntries(Object.entries(headers).filter(([other]) => other !== name));
