/** Whose requests are counted together: those of one address, of one user, or about one username. */
export type LimitBy = 'ip' | 'caller' | 'username';

/** Never more than `max` requests in any window of `windowMs`. */
export type Limit = {
  /** The canonical spelling, which parses to this limit again: `5 per 10 minutes by ip`. */
  readonly text: string;
  readonly max: number;
  readonly windowMs: number;
  readonly by: LimitBy;
  /** The name under which several routes count together; `undefined` counts for its route alone. */
  readonly shared: string | undefined;
};

/** A limit at a place. */
export type Rule = {
  /** What its counters are kept under: the same id is the same counters. */
  readonly id: string;
  /** The policy's name in the `RateLimit` headers: `[a-z0-9-]`, unique within its route. */
  readonly name: string;
  readonly limit: Limit;
};

const RIGHT_FORM = `Write a limit like "3 per minute by ip", "5 per 10 minutes by caller" or "100/hour by ip shared 'search'", and ";" between two.`;
const KINDS: readonly LimitBy[] = ['ip', 'caller', 'username'];
const MAX_COUNT = 1_000_000_000;

const SECOND = 1_000;
const DAY = 86_400 * SECOND;
const MAX_WINDOW = 31 * DAY;
const UNITS = new Map([
  ['day', DAY],
  ['hour', 3_600 * SECOND],
  ['minute', 60 * SECOND],
  ['second', SECOND],
]);
/** Understood, though never written: `month` comes with the limits of other libraries, `year` only to be told that it is too long. */
const READ_UNITS = new Map([...UNITS, ['month', 30 * DAY], ['year', 365 * DAY]]);

/**
 * Reads limits as people write them: `3 per minute by ip`, `5/minute`, `100 per hour; 10 per 5 seconds by caller shared 'search'`.
 * `;`, `,` or `|` stands between two limits; case does not matter; without `by` it is `by ip`. No text is no limits.
 * A limit is 1 to 1,000,000,000 requests in 1 second to 31 days; a month is 30 days.
 * @throws {Error} with a sentence that names the wrong part and shows the right form.
 */
export function parseLimits(text: string | readonly string[]): Limit[] {
  const lines = typeof text === 'string' ? [text] : text;
  return lines.filter((line) => line.trim() !== '').flatMap((line) => line.split(/[;,|]/).map(parseLimit));
}

/**
 * The limits of one route as rules, in their order. HEAD counts with GET.
 * @throws {Error} when the route has one limit twice.
 */
export function rulesFor({ method, path }: { readonly method: string; readonly path: string }, limits: readonly Limit[]): Rule[] {
  const route = `${method === 'HEAD' ? 'GET' : method} ${path}`;
  const slug =
    path
      .toLowerCase()
      .split(/[^a-z0-9]+/)
      .filter(Boolean)
      .join('-') || 'root';
  const texts = new Set<string>();
  const names = new Set<string>();
  return limits.map((limit) => {
    if (texts.has(limit.text)) throw new Error(`${route} has the limit "${limit.text}" twice. Leave one out.`);
    texts.add(limit.text);
    const name = freeName(limit.shared ?? slug, limit.by, names);
    names.add(name);
    // A limit's text names what it shares, and begins with a digit: no route's id can be the same.
    return { id: limit.shared === undefined ? `${route} ${limit.text}` : limit.text, name, limit };
  });
}

function freeName(base: string, by: LimitBy, taken: ReadonlySet<string>): string {
  if (!taken.has(base)) return base;
  if (!taken.has(`${base}-by-${by}`)) return `${base}-by-${by}`;
  let number = 2;
  while (taken.has(`${base}-${number}`)) number += 1;
  return `${base}-${number}`;
}

function parseLimit(text: string): Limit {
  const wrong = (why: string) => new Error(`The limit "${text.trim()}" cannot be read: ${why}. ${RIGHT_FORM}`);
  const words = text.toLowerCase().replaceAll('/', ' per ').split(/\s+/).filter(Boolean);
  const next = () => words.shift() ?? '';

  const count = next();
  const max = wholeNumber(count);
  if (count === '') throw wrong('a limit is missing here');
  if (max === undefined) throw wrong(`"${count}" is not a number of requests`);
  if (max < 1 || max > MAX_COUNT) throw wrong(`${count} is not between 1 and ${MAX_COUNT} requests`);

  const per = next();
  if (per !== 'per') throw wrong(per === '' ? `"per" and a time are missing after ${count}` : `"per" is expected where it says "${per}"`);

  const times = wholeNumber(words[0] ?? '');
  if (times !== undefined) next();
  const unit = next();
  const unitMs = READ_UNITS.get(unit.endsWith('s') ? unit.slice(0, -1) : unit);
  if (unit === '') throw wrong('the unit of time is missing');
  if (unitMs === undefined) throw wrong(`"${unit}" is not a unit of time (second, minute, hour, day)`);
  const windowMs = (times ?? 1) * unitMs;
  if (windowMs < SECOND || windowMs > MAX_WINDOW) throw wrong(`"${times ?? 1} ${unit}" is not between 1 second and 31 days`);

  const by = words[0] === 'by' ? readKind() : 'ip';
  const shared = words[0] === 'shared' ? readShared() : undefined;
  if (words.length > 0) throw wrong(`"${words.join(' ')}" is not understood at its end`);
  return { text: spell(max, windowMs, by, shared), max, windowMs, by, shared };

  function readKind(): LimitBy {
    next();
    const word = next();
    const kind = KINDS.find((known) => known === word);
    if (kind === undefined) throw wrong(`"by ${word}" is none of ${KINDS.map((known) => `"by ${known}"`).join(', ')}`);
    return kind;
  }

  function readShared(): string {
    next();
    const word = next();
    const name = /^'([a-z0-9][a-z0-9-]{0,39})'$/.exec(word)?.[1];
    if (name === undefined) throw wrong(`"shared ${word}" needs a name in single quotes, of at most 40 letters, digits and hyphens`);
    return name;
  }
}

function wholeNumber(word: string): number | undefined {
  return /^[0-9]+$/.test(word) ? Number(word) : undefined;
}

function spell(max: number, windowMs: number, by: LimitBy, shared: string | undefined): string {
  const [unit, unitMs] = [...UNITS].find(([, ms]) => windowMs % ms === 0) ?? ['second', SECOND];
  const times = windowMs / unitMs;
  const time = times === 1 ? unit : `${times} ${unit}s`;
  return `${max} per ${time} by ${by}${shared === undefined ? '' : ` shared '${shared}'`}`;
}
