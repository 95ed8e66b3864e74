import { isIP, isIPv6 } from 'node:net';
import { cidrBlock, type Limit, parseDuration, parseLimits, showDuration } from '@portcullis/guard';
import { readRedisUrl, redisUrlForms, showRedisUrl } from '../lib/redis-url.ts';
import { parsePostgresUrl } from '../lib/postgres-url.ts';

/** How a text becomes a value, and how the value is shown. `parse(show(value))` is the value again, but for a secret. */
export type Kind<T> = {
  /** What it takes, as words that end the sentence "it takes …". */
  readonly takes: string;
  /** @throws {Error} with a sentence that says what is wrong with this text and what is right. */
  parse(text: string): T;
  show(value: T): string;
  /** Of a choice: all that it takes. */
  readonly words?: readonly string[];
  /** Of a list: what stands between its items. Only a list may be empty. */
  readonly separator?: ', ' | '; ';
  /** The JSON type that the file may use beside a string. A list may be an array there. */
  readonly json?: 'number' | 'boolean';
  /** Never shown; has a `…_FILE` variable; refused on the command line, which every process can read. */
  readonly secret?: true;
};

const plain = { show: (text: string) => text };

/** An address to listen on. */
export const address: Kind<string> = {
  ...plain,
  takes: 'an IP address or "localhost"',
  parse: (text) => (isIP(text) || text === 'localhost' ? text : refuse(text, address.takes)),
};

export function whole(min: number, max: number): Kind<number> {
  const takes = `a whole number from ${min} to ${max}`;
  return {
    takes,
    parse: (text) => (/^(0|[1-9]\d*)$/.test(text) && Number(text) >= min && Number(text) <= max ? Number(text) : refuse(text, takes)),
    show: String,
    json: 'number',
  };
}

/** A port of TCP; 0 is any free one. */
export const port = whole(0, 65_535);

export type Listen = { readonly host: string; readonly port: number };

export const listen: Kind<Listen> = {
  takes: 'an address and a port, such as "127.0.0.1:5001" or "[::1]:5001"',
  parse(text) {
    const [, v6, other = '', digits = ''] = /^(?:\[([\da-fA-F:.]+)\]|([^:]+)):(\d+)$/.exec(text) ?? [];
    const host = v6 ?? other;
    if (digits === '' || (v6 !== undefined && !isIPv6(v6))) return refuse(text, listen.takes);
    return { host: address.parse(host), port: port.parse(digits) };
  },
  show: ({ host, port }) => (isIPv6(host) ? `[${host}]:${port}` : `${host}:${port}`),
};

/** @param none the word for "nothing of the kind", which is `undefined` as a value. */
export function or<T extends {}>(none: string, kind: Kind<T>): Kind<T | undefined> {
  return {
    takes: `"${none}", or ${kind.takes}`,
    parse(text) {
      if (text === none) return undefined;
      try {
        return kind.parse(text);
      } catch (error) {
        throw error instanceof Error ? new Error(`${error.message}; or write "${none}"`) : error;
      }
    },
    show: (value) => (value === undefined ? none : kind.show(value)),
  };
}

export function oneOf<const T extends string>(...words: readonly T[]): Kind<T> {
  const takes = words.map((word) => `"${word}"`).join(' or ');
  return { takes, words, parse: (text) => words.find((word) => word === text) ?? refuse(text, takes), show: (word) => word };
}

const trueOrFalse = oneOf('true', 'false');

export const yesNo: Kind<boolean> = {
  takes: trueOrFalse.takes,
  words: ['true', 'false'],
  parse: (text) => trueOrFalse.parse(text) === 'true',
  show: String,
  json: 'boolean',
};

const units = ['seconds', 'minutes', 'hours', 'days'];

/** In milliseconds. @param min @param max as texts of the same form. */
export function duration(min: string, max: string): Kind<number> {
  const takes = `a duration from "${min}" to "${max}"`;
  const [minMs, maxMs] = [parseDuration(min), parseDuration(max)];
  const isWithin = (ms: number): boolean => ms >= minMs && ms <= maxMs;
  return {
    takes,
    parse(text) {
      if (/^0*[1-9]\d{0,8}$/.test(text)) {
        const meant = units.map((unit) => `${text} ${unit}`).filter((one) => isWithin(parseDuration(one)));
        throw new Error(`${quote(text)} has no unit: write ${meant.map(quote).join(' or ') || takes}`);
      }
      const ms = parseDuration(text);
      return isWithin(ms) ? ms : refuse(text, takes);
    },
    show: showDuration,
  };
}

export const path: Kind<string> = {
  ...plain,
  takes: 'a path',
  parse: (text) => (text.trim() !== '' && !text.includes('\0') ? text : refuse(text, path.takes)),
};

/** A name that goes into a token. */
export const word: Kind<string> = {
  ...plain,
  takes: 'up to 200 visible ASCII characters without a space',
  parse: (text) => (/^[!-~]{1,200}$/.test(text) ? text : refuse(text, word.takes)),
};

/** Of SQLite, `file` is a path, relative to the data folder, or `:memory:`. Of PostgreSQL, `url` is one that {@link parsePostgresUrl} reads. */
export type Database = { readonly engine: 'sqlite'; readonly file: string } | { readonly engine: 'postgres'; readonly url: string };

export const database: Kind<Database> = {
  takes:
    '"sqlite:FILE" (relative to the data folder, or an absolute path), "sqlite::memory:" or "postgres://USER@HOST:PORT/DATABASE?sslmode=verify-full"',
  // The text is not quoted in what is wrong with it: the URL of a database may hold a password.
  parse(text) {
    if (/^postgres(ql)?:/.test(text)) {
      parsePostgresUrl(text);
      return { engine: 'postgres', url: text };
    }
    const file = /^sqlite:(?!\/\/)(:memory:|[^:?#\0][^?#\0]*)$/.exec(text)?.[1];
    if (file === undefined) throw new Error(`this is not ${database.takes}`);
    return { engine: 'sqlite', file };
  },
  show: (value) => showDatabase(value),
};

/** Without its password. */
export const showDatabase = (value: Database): string =>
  value.engine === 'sqlite' ? `sqlite:${value.file}` : value.url.replace(/^(\w+:\/\/[^:/?#@]*):[^/?#]*@/, '$1@');

/** The URL may hold a password, which is not shown. */
export const redisUrl: Kind<string> = {
  takes: redisUrlForms,
  parse(text) {
    readRedisUrl(text);
    return text;
  },
  show: showRedisUrl,
};

/** RFC 8414 section 2: https, no query, no fragment. No slash at the end, so that there is one spelling. */
export const issuer: Kind<string> = {
  ...plain,
  takes: 'an https URL without query, fragment and slash at the end, such as "https://api.example.com"',
  parse(text) {
    const url = URL.parse(text);
    if (url?.protocol !== 'https:') return refuse(text, issuer.takes);
    const right = url.origin + url.pathname.replace(/\/+$/, '');
    return text === right ? text : refuse(text, issuer.takes, right);
  },
};

/** Exact origins (RFC 6454 section 6.1), each as a browser sends it. */
export const origins = list(
  'exact origins such as "https://app.example.com" (http only for localhost, 127.0.0.1 and [::1]), with commas between',
  (text) => {
    if (text === '*') throw new Error('"*" would let every site in: name each origin');
    if (text.toLowerCase() === 'null') throw new Error('"null" is the origin of every sandboxed page and local file: name each origin');
    if (/[*\\^$|(){}+]/.test(text))
      throw new Error(`${quote(text)} looks like a pattern, and patterns are not understood: name each origin`);
    const url = URL.parse(text.includes('://') ? text : `https://${text}`);
    if (!url?.host) return refuse(text, 'an origin such as "https://app.example.com"');
    const isLocal = url.protocol === 'http:' && ['localhost', '127.0.0.1', '[::1]'].includes(url.hostname);
    const right = isLocal ? url.origin : `https://${url.host}`;
    return text === right ? text : refuse(text, 'an exact origin over https', right);
  },
);

/** Addresses and CIDR blocks. A block of everything is refused: anyone could then claim any address. */
export const proxies = list('IP addresses and CIDR blocks, with commas between', (text) => {
  const block = cidrBlock(text);
  if (!block) return refuse(text, 'an IP address or a CIDR block such as "10.0.0.0/8"');
  if (block.prefix < (block.family === 'ipv4' ? 8 : 7))
    throw new Error(`${quote(text)} would believe whatever address any caller claims: name the blocks of the proxies`);
  return text;
});

function list(takes: string, parseItem: (text: string) => string): Kind<readonly string[]> {
  return {
    takes,
    parse: (text) => (text.trim() === '' ? [] : text.split(',').map((item) => parseItem(item.trim()))),
    show: (items) => items.join(', '),
    separator: ', ',
  };
}

/** Rate limits. @param by what they may count by here. */
export function limits(...by: readonly Limit['by'][]): Kind<readonly Limit[]> {
  return {
    takes: `limits by ${by.join(' or ')}, such as "3 per minute by ip; 20 per hour by ip"`,
    parse(text) {
      const found = parseLimits(text);
      const stray = found.find((limit) => !by.includes(limit.by));
      if (stray) throw new Error(`${quote(stray.text)} counts by ${stray.by}, but here a limit counts by ${by.join(' or ')}`);
      const twice = found.find((limit, i) => found.some((other, j) => j > i && other.text === limit.text));
      if (twice) throw new Error(`${quote(twice.text)} stands here twice: leave one out`);
      return found;
    },
    show: (found) => found.map((limit) => limit.text).join('; '),
    separator: '; ',
  };
}

/** Somebody else chose it, so it is taken as it is. */
export const password: Kind<string> = {
  takes: 'a password',
  parse(text) {
    if (text === '' || text.includes('\0')) throw new Error('it is empty');
    return text;
  },
  show: () => 'set',
  secret: true,
};

/** At least 256 bits of room, and nothing that was typed to fill them. */
export const secret: Kind<string> = {
  takes: 'at least 32 bytes of randomness, such as "openssl rand -base64 32" prints',
  // What is wrong is said without the text, or any part of it.
  parse(text) {
    const wrong =
      Buffer.byteLength(text) < 32
        ? 'it is shorter than 32 bytes'
        : text.includes('\uFFFD')
          ? 'it is not text in UTF-8'
          : new Set(text).size < 10
            ? 'it has fewer than 10 different characters'
            : repeatsItself(text)
              ? 'it is one short text, repeated'
              : undefined;
    if (wrong) throw new Error(`${wrong}: write ${secret.takes}`);
    return text;
  },
  show: () => 'set',
  secret: true,
};

function repeatsItself(text: string): boolean {
  for (let period = 1; period <= text.length / 2; period++) {
    if (text.startsWith(text.slice(period))) return true;
  }
  return false;
}

/** @throws {Error} always. @param right the spelling that would do, where it is plain. */
function refuse(text: string, takes: string, right?: string): never {
  throw new Error(`${quote(text)} is not ${takes}${right === undefined ? '' : `: write "${right}"`}`);
}

const quote = (text: string): string => JSON.stringify(text.length > 80 ? `${text.slice(0, 80)}…` : text);
