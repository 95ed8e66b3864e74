import { isLoopback } from './loopback.ts';

export type RedisAddress = { readonly host: string; readonly port: number } | { readonly path: string };

/** What the URL of a Redis says. */
export type RedisUrl = {
  readonly isTls: boolean;
  readonly username?: string;
  readonly password?: string;
} & (
  | { readonly kind: 'one'; readonly address: RedisAddress; readonly database: number }
  /** `master` is the name under which the sentinels watch it. User, password and database are those of the Redis behind them. */
  | { readonly kind: 'sentinel'; readonly sentinels: readonly RedisAddress[]; readonly master: string; readonly database: number }
  /** Some of its nodes: they name the others. */
  | { readonly kind: 'cluster'; readonly seeds: readonly RedisAddress[] }
);

export const redisUrlForms =
  '"redis://HOST:PORT/DATABASE", "unix:///PATH?db=DATABASE", "redis+sentinel://HOST:PORT,HOST:PORT/MASTER" or "redis+cluster://HOST:PORT,HOST:PORT"; over TLS "rediss" in place of "redis"';

/**
 * Reads the forms that redis-py, node-redis and Flask-Limiter have; a host list, a user and a password may stand in each.
 * @throws {Error} with a sentence that quotes nothing, for the text may hold a password.
 */
export function readRedisUrl(text: string): RedisUrl {
  const [, scheme = '', login, rest = '', query] = /^([a-z+]+):\/\/(?:([^/?#]*)@)?([^?#@]*)(?:\?([^#]*))?$/.exec(text) ?? [];
  const [first = '', how = first] = scheme.split('+');
  const who = { isTls: first === 'rediss', ...readLogin(login) };
  const isUnix = (scheme === 'unix' || scheme === 'redis+unix') && rest.startsWith('/') && rest.length > 1;
  if (!isUnix && !['redis', 'rediss'].includes(first)) return wrong();

  if (isUnix)
    return { ...who, kind: 'one', address: { path: decoded(rest) }, database: readDatabase(/^db=(.*)$/.exec(query ?? 'db=0')?.[1]) };
  if (query !== undefined) throw new Error(`what stands behind "?" is not understood here: leave it out`);
  const [hosts = '', name = '', database, ...more] = rest.split('/');
  const addresses = (port: number): RedisAddress[] => hosts.split(',').map((host) => readAddress(host, port));

  switch (how) {
    case 'redis':
    case 'rediss': {
      const [address, other] = addresses(6_379);
      if (!address || other || database !== undefined) return wrong();
      return { ...who, kind: 'one', address, database: readDatabase(name || '0') };
    }
    case 'sentinel':
      if (name === '' || more.length > 0)
        throw new Error(
          'behind the sentinels stands the name of the master they watch: write "redis+sentinel://HOST:PORT,HOST:PORT/MASTER"',
        );
      return {
        ...who,
        kind: 'sentinel',
        sentinels: addresses(26_379),
        master: decoded(name),
        database: readDatabase(database || '0'),
      };
    case 'cluster':
      if (name !== '') throw new Error('a cluster has one database, without a number: leave out what stands behind its nodes');
      return { ...who, kind: 'cluster', seeds: addresses(6_379) };
    default:
      return wrong();
  }
}

/** Without its password. */
export const showRedisUrl = (text: string): string =>
  text.replace(/^([^/]*\/\/)([^/?#]*)@/, (_, scheme: string, login: string) => {
    const username = login.split(':')[0];
    return username ? `${scheme}${username}@` : scheme;
  });

export const showRedisAddress = (address: RedisAddress): string =>
  'path' in address ? address.path : address.host.includes(':') ? `[${address.host}]:${address.port}` : `${address.host}:${address.port}`;

function readLogin(login: string | undefined): { username?: string; password?: string } {
  if (login === undefined) return {};
  const colon = login.indexOf(':');
  const [username, password] = colon < 0 ? [login, ''] : [login.slice(0, colon), login.slice(colon + 1)];
  return { ...(username && { username: decoded(username) }), ...(password && { password: decoded(password) }) };
}

function readAddress(text: string, usualPort: number): RedisAddress {
  const [, v6, name, digits] = /^(?:\[([\da-f:.]+)\]|([\w.-]+))(?::(\d{1,5}))?$/i.exec(text) ?? [];
  const host = v6 ?? name;
  const port = digits === undefined ? usualPort : Number(digits);
  if (host === undefined || port < 1 || port > 65_535) return wrong();
  return { host, port };
}

const readDatabase = (digits: string | undefined): number => (digits !== undefined && /^\d{1,5}$/.test(digits) ? Number(digits) : wrong());

function decoded(text: string): string {
  try {
    return decodeURIComponent(text);
  } catch {
    return wrong();
  }
}

function wrong(): never {
  throw new Error(`this is not ${redisUrlForms}`);
}

/** Whether passwords and sessions go over a network in clear. */
export function isInClear(text: string): boolean {
  const url = readRedisUrl(text);
  const addresses = url.kind === 'one' ? [url.address] : url.kind === 'sentinel' ? url.sentinels : url.seeds;
  return !url.isTls && addresses.some((address) => 'host' in address && !isLoopback(address.host));
}
