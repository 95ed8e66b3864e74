import { userInfo } from 'node:os';
import { isLoopback } from './loopback.ts';
import { nearest } from './nearest.ts';

/** Where a PostgreSQL is, who asks, and whether TLS is on the way. */
export type PostgresAddress = {
  /** A name, an IP address, or the folder of its unix socket. */
  readonly host: string;
  readonly port: number;
  readonly user: string;
  readonly password: string | undefined;
  readonly database: string;
  /** `undefined`: in clear. Else the certificate and its name are always checked; `caFile` is `undefined` for the authorities of the system. */
  readonly tls:
    | { readonly caFile: string | undefined; readonly certFile: string | undefined; readonly keyFile: string | undefined }
    | undefined;
  readonly applicationName: string | undefined;
  /** Options for the server's process, such as `-c search_path=…`. */
  readonly options: string | undefined;
};

/** What may stand behind the question mark; each means what libpq means by it, but for `sslmode`, which has only its two ends. */
const words = ['host', 'port', 'user', 'sslmode', 'sslrootcert', 'sslcert', 'sslkey', 'application_name', 'options'] as const;
type Word = (typeof words)[number];

/**
 * Reads `postgres://USER:PASSWORD@HOST:PORT/DATABASE?sslmode=…`, or `postgres:///DATABASE?host=/run/postgresql` for a socket.
 * Without `sslmode`, what leaves this machine is under TLS.
 * @throws {Error} with a sentence that says what is wrong, without the text or any part that may be a password.
 */
export function parsePostgresUrl(text: string): PostgresAddress {
  // A user without a host, as for a socket, is no URL to WHATWG.
  const url = URL.parse(text) ?? URL.parse(text.replace(/^(\w+:\/\/[^/?#]*@)(?=\/)/, `$1${NO_HOST}`));
  if (!url || !/^postgres(ql)?:$/.test(url.protocol) || url.hash !== '') throw new Error(`the URL of a PostgreSQL database is ${form}`);
  const more = wordsOf(url.searchParams);

  const named = decoded(url.hostname).replace(/^\[(.*)\]$/, '$1');
  const host = more.host ?? (named === NO_HOST ? '' : named);
  const isSocket = host.startsWith('/');
  const user = more.user ?? (decoded(url.username) || (isSocket ? userInfo().username : '')); // whom "peer" lets in
  const database = decoded(url.pathname.slice(1));
  if (host === '' || user === '' || database === '' || /[,\s]/.test(host))
    throw new Error(`the URL of a PostgreSQL database names a user, one host and a database: write ${form}`);
  const port = Number(more.port ?? (url.port || 5432));
  if (!Number.isInteger(port) || port < 1 || port > 65_535)
    throw new Error('the port of a PostgreSQL database is a number from 1 to 65535');
  return {
    host,
    port,
    user,
    password: decoded(url.password) || undefined,
    database,
    tls: tlsOf(more, host, isSocket),
    applicationName: more.application_name,
    options: more.options,
  };
}

const form = '"postgres://USER@HOST:PORT/DATABASE?sslmode=verify-full", or "postgres:///DATABASE?host=/run/postgresql" for a socket';
const NO_HOST = 'none.invalid';

function wordsOf(given: URLSearchParams): Partial<Record<Word, string>> {
  const found: Partial<Record<Word, string>> = {};
  for (const [name, value] of given) {
    if (name === 'password') throw new Error('a password stands before the @, or better in PORTCULLIS_DATABASE_PASSWORD_FILE');
    const word = words.find((known) => known === name);
    const meant = nearest(name, words);
    if (!word)
      throw new Error(
        `this URL has a word that is not understood: ${meant ? `did you mean ${meant}=…?` : `there are ${words.join(', ')}`}`,
      );
    if (word in found) throw new Error(`${word} stands twice in this URL: leave one out`);
    if (value === '' || value.includes('\0')) throw new Error(`${word} is empty in this URL`);
    found[word] = value;
  }
  return found;
}

function tlsOf(
  { sslmode, sslrootcert, sslcert, sslkey }: Partial<Record<Word, string>>,
  host: string,
  isSocket: boolean,
): PostgresAddress['tls'] {
  const files = sslrootcert ?? sslcert ?? sslkey;
  if (sslmode !== undefined && sslmode !== 'disable' && sslmode !== 'verify-full') throw new Error(notThisMode(sslmode));
  if (isSocket && (sslmode === 'verify-full' || files !== undefined))
    throw new Error('PostgreSQL has no TLS on a socket, and nobody is on the way: leave sslmode and its files out');
  if (sslmode === 'disable' && files !== undefined)
    throw new Error('sslmode=disable has no use for a certificate: write sslmode=verify-full, or leave the files out');
  if ((sslcert === undefined) !== (sslkey === undefined)) throw new Error('sslcert and sslkey are set together or not at all');
  const isInClear = sslmode === 'disable' || (sslmode === undefined && files === undefined && (isSocket || isLoopback(host)));
  return isInClear ? undefined : { caFile: sslrootcert === 'system' ? undefined : sslrootcert, certFile: sslcert, keyFile: sslkey };
}

function notThisMode(mode: string): string {
  const why: Readonly<Record<string, string>> = {
    require: 'sslmode=require would take anybody for the database',
    'verify-ca': 'sslmode=verify-ca would take any server of that authority for the database',
    prefer: 'sslmode=prefer would do without TLS whenever somebody on the way says so',
    allow: 'sslmode=allow would do without TLS whenever somebody on the way says so',
    'no-verify': 'sslmode=no-verify would take anybody for the database',
  };
  const said = Object.hasOwn(why, mode) ? why[mode] : 'sslmode is "verify-full" or "disable"';
  return `${said}: write sslmode=verify-full, with sslrootcert=FILE where the authority is your own; or sslmode=disable where nobody else can listen on the way`;
}

/** @throws {Error} where a percent sign is none of an encoding. */
function decoded(text: string): string {
  try {
    return decodeURIComponent(text);
  } catch {
    throw new Error('a percent sign in the URL of a database is written %25');
  }
}
