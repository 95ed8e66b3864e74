import { signingAlgorithms } from '@portcullis/guard';
import { isLoopback } from '../lib/loopback.ts';
import { address, database, duration, issuer, type Kind, limits, listen, oneOf, or, origins, password, path, port, proxies, redisUrl, secret, whole, word, yesNo } from './kinds.ts';

/** `dev` runs the demo on loopback; `serve` is for the world; `admin` looks after a store, and needs no more than to find it. */
export type Mode = 'dev' | 'serve' | 'admin';

export type Row = {
  readonly name: string;
  /** Its variable is `PORTCULLIS_` and this; its key in the file and its flag are the same words. */
  readonly env: string;
  readonly kind: Kind<unknown>;
  /** As a text, like everything that is set. Without one the setting is `undefined` until it is set. */
  readonly default?: string;
  /** The default under `portcullis dev`, where it is another. */
  readonly dev?: string;
  /** `portcullis dev` makes one where none is set. */
  readonly madeBy?: 'dev';
  readonly says: string;
};

/** Everything that can be set. */
export const table = [
  // Where it listens, and what it keeps where
  { name: 'host',                     env: 'HOST',                        kind: address,                          default: '0.0.0.0',              dev: '127.0.0.1',                 says: 'The address to listen on. "::" is IPv6 and IPv4.' },
  { name: 'port',                     env: 'PORT',                        kind: port,                             default: '5000',                                                   says: 'The port, which speaks HTTPS only. 0 is any free one.' },
  { name: 'workers',                  env: 'WORKERS',                     kind: whole(1, 128),                    default: '1',                                                      says: 'How many processes serve on the one port; each is an instance. More than one needs PostgreSQL and Redis.' },
  { name: 'adminListen',              env: 'ADMIN_LISTEN',                kind: or('none', listen),               default: '127.0.0.1:5001',       dev: 'none',                      says: 'Where metrics (/metrics) and the details of readiness (/readyz) are served, in clear and to anyone who can reach it.' },
  { name: 'dataDir',                  env: 'DATA_DIR',                    kind: path,                             default: '.portcullis/data',     dev: '.portcullis/dev',           says: 'The folder for everything that is kept.' },
  { name: 'database',                 env: 'DATABASE_URL',                kind: database,                         default: 'sqlite:portcullis.db',                                   says: 'The database: a file of SQLite for one process, or PostgreSQL, which is asked under TLS unless it is on this machine or its URL says sslmode=disable. The URL may name the authority of its certificate (sslrootcert=FILE), and a certificate to show (sslcert, sslkey).' },
  { name: 'databasePassword',         env: 'DATABASE_PASSWORD',           kind: password,                                                                                            says: 'The password of the database, where its URL has none. PostgreSQL only, like the two below.' },
  { name: 'databasePool',             env: 'DATABASE_POOL',               kind: whole(1, 1_000),                  default: '10',                                                     says: 'How many connections to the database each process opens at most.' },
  { name: 'databaseTimeoutMs',        env: 'DATABASE_TIMEOUT',            kind: duration('100 ms', '60 s'),       default: '3 s',                                                    says: 'How long a statement, a lock or a connection is waited for; then it is 503.' },
  { name: 'redisUrl',                 env: 'REDIS_URL',                   kind: or('none', redisUrl),             default: 'none',                                                   says: 'A Redis in which all instances count limits together, and of which they ask whether a session lives. Without one each process counts for itself, and asks the database.' },
  { name: 'redisPassword',            env: 'REDIS_PASSWORD',              kind: password,                                                                                            says: 'The password of Redis, where its URL has none. A user name stands in the URL.' },
  { name: 'redisSentinelPassword',    env: 'REDIS_SENTINEL_PASSWORD',     kind: password,                                                                                            says: 'The password of the sentinels themselves, where they have one.' },
  { name: 'redisTlsCaFile',           env: 'REDIS_TLS_CA_FILE',           kind: path,                                                                                                says: 'The authorities whose certificates are believed of Redis and its sentinels, as PEM. Without it, those that Node believes, NODE_EXTRA_CA_CERTS among them.' },
  { name: 'redisTimeoutMs',           env: 'REDIS_TIMEOUT',               kind: duration('20 ms', '5 s'),         default: '250 ms',                                                 says: 'How long Redis is waited for; then this instance counts by its share.' },
  { name: 'redisWaitReplicas',        env: 'REDIS_WAIT_REPLICAS',         kind: or('auto', whole(0, 10)),         default: 'auto',                                                   says: 'How many replicas of Redis must have a revocation before it is confirmed; with fewer it is 503. "auto" is one, while any is connected.' },
  { name: 'logFile',                  env: 'LOG_FILE',                    kind: path,                             default: 'security.log',                                           says: 'The security log; a relative path is a file in the data folder, "stdout" is the standard output.' },
  { name: 'auditRetentionMs',         env: 'AUDIT_RETENTION',             kind: duration('1 day', '4000 days'),   default: '400 days',                                               says: 'How long an audit entry is kept.' },
  { name: 'shutdownDelayMs',          env: 'SHUTDOWN_DELAY',              kind: duration('0', '10 minutes'),      default: '0',                                                      says: 'How long new connections are still taken after SIGTERM; behind a balancer, its check interval × fall.' },
  { name: 'configFile',               env: 'CONFIG_FILE',                 kind: path,                                                                                                says: 'A file of settings: one JSON object. Set in the environment or by its flag.' },

  // Gate 1, wire
  { name: 'tlsCertFile',              env: 'TLS_CERT_FILE',               kind: path,                                                              madeBy: 'dev',                    says: 'The certificate and its chain, as PEM.' },
  { name: 'tlsKeyFile',               env: 'TLS_KEY_FILE',                kind: path,                                                              madeBy: 'dev',                    says: 'The private key of the certificate, as PEM.' },
  { name: 'tlsAtProxy',               env: 'TLS_AT_PROXY',                kind: yesNo,                            default: 'false',                                                  says: 'True where a declared proxy ends TLS and speaks plain HTTP to this server.' },
  { name: 'tlsClientAuth',            env: 'TLS_CLIENT_AUTH',             kind: oneOf('none', 'optional', 'required'), default: 'none',                                              says: 'Whether clients must show a certificate of their own in the TLS handshake. One that is sent must be good, also where it is optional.' },
  { name: 'tlsClientCaFile',          env: 'TLS_CLIENT_CA_FILE',          kind: path,                                                                                                says: 'The authorities whose certificates clients may show, roots included, as PEM.' },
  { name: 'trustedProxies',           env: 'TRUSTED_PROXIES',             kind: proxies,                          default: '',                                                       says: 'The proxies whose word for the address of a caller is believed.' },
  { name: 'trustedProxyHeader',       env: 'TRUSTED_PROXY_HEADER',        kind: oneOf('x-forwarded-for', 'forwarded', 'proxy-protocol'), default: 'x-forwarded-for',                         says: 'Where they say it; nothing else is believed. "x-forwarded-for" goes with X-Forwarded-Proto, "forwarded" is RFC 7239, "proxy-protocol" stands before each connection, in version 1 or 2.' },
  { name: 'ipv6Prefix',               env: 'IPV6_PREFIX',                 kind: whole(32, 128),                   default: '64',                                                     says: 'How many bits of an IPv6 address count as one caller: 64 is what one subscriber has at least, many have 56 or 48.' },
  { name: 'maxConnections',           env: 'MAX_CONNECTIONS',             kind: whole(1, 1_000_000),              default: '2000',                                                   says: 'How many connections are held, by all workers together; at the bound the one longest idle is closed.' },
  { name: 'maxConnectionsPerAddress', env: 'MAX_CONNECTIONS_PER_ADDRESS', kind: whole(1, 1_000_000),              default: '200',                                                    says: 'How many of them one address may hold.' },

  // Gate 3, CORS
  { name: 'corsOrigins',              env: 'CORS_ORIGINS',                kind: origins,                          default: '',                     dev: 'https://your-frontend.com', says: 'The front ends that a browser lets talk to this API.' },
  { name: 'corsMaxAgeMs',             env: 'CORS_MAX_AGE',                kind: duration('0', '24 hours'),        default: '10 minutes',                                             says: 'How long a browser may remember the answer to a preflight.' },

  // Pages
  { name: 'docsPage',                 env: 'DOCS_PAGE',                   kind: yesNo,                            default: 'false',                dev: 'true',                      says: 'Whether /docs shows this API as a page to read and to try. A page on the origin of an API is one thing more to attack, so serve has none unless told.' },

  // Gate 4, token
  { name: 'issuer',                   env: 'ISSUER',                      kind: issuer,                                                            madeBy: 'dev',                    says: 'The URL of this server, as callers know it: the iss of its tokens.' },
  { name: 'audience',                 env: 'AUDIENCE',                    kind: word,                             default: 'portcullis',                                             says: 'Whom the tokens are for: their aud.' },
  { name: 'signingAlg',               env: 'SIGNING_ALG',                 kind: oneOf(...signingAlgorithms),     default: 'EdDSA',                                                  says: 'How new keys sign access tokens.' },
  { name: 'keyRotationMs',            env: 'KEY_ROTATION',                kind: or('never', duration('1 day', '400 days')), default: '30 days',                                      says: 'How long a key signs before the next one takes over. Keys that an operator imported never give way by themselves.' },
  { name: 'masterSecret',             env: 'MASTER_SECRET',               kind: secret,                                                            madeBy: 'dev',                    says: 'Everything at rest is sealed under it. Without it, what is stored is lost.' },
  { name: 'masterSecretPrevious',     env: 'MASTER_SECRET_PREVIOUS',      kind: secret,                                                                                              says: 'The master secret of before, while it is being changed: what it has sealed and signed is still read. Take it out when the start says so.' },
  { name: 'accessTokenTtlMs',         env: 'ACCESS_TOKEN_TTL',            kind: duration('10 s', '24 hours'),     default: '15 minutes',                                             says: 'How long an access token lives.' },
  { name: 'refreshTokenTtlMs',        env: 'REFRESH_TOKEN_TTL',           kind: duration('1 minute', '400 days'), default: '7 days',                                                 says: 'How long a session lives from login; refreshing never extends it.' },
  { name: 'refreshGraceMs',           env: 'REFRESH_GRACE',               kind: duration('0', '5 minutes'),       default: '10 s',                                                   says: 'How long a refresh token that was just used gives the same successor again, for two tabs or a lost answer. 0 is strict.' },
  { name: 'sessionIdleTtlMs',         env: 'SESSION_IDLE_TTL',            kind: or('off', duration('1 minute', '400 days')), default: 'off',                                         says: 'A session that is not refreshed for so long ends.' },
  { name: 'sessionsPerUser',          env: 'SESSIONS_PER_USER',           kind: whole(1, 10_000),                 default: '100',                                                    says: 'How many live sessions a user has at most; the oldest ends.' },

  // Gate 5, counters
  { name: 'loginLimits',              env: 'LOGIN_LIMITS',                kind: limits('ip', 'username'),         default: '3 per minute by ip',                                     says: 'Limits of POST /login.' },
  { name: 'protectedLimits',          env: 'PROTECTED_LIMITS',            kind: limits('ip', 'caller'),           default: '5 per minute by ip',                                     says: 'Limits of GET /protected.' },
  { name: 'refreshLimits',            env: 'REFRESH_LIMITS',              kind: limits('ip'),                     default: '30 per minute by ip',                                    says: 'Limits of POST /refresh.' },
  { name: 'logoutLimits',             env: 'LOGOUT_LIMITS',               kind: limits('ip'),                     default: '30 per minute by ip',                                    says: 'Limits of POST /logout.' },
  { name: 'defaultLimits',            env: 'DEFAULT_LIMITS',              kind: limits('ip'),                     default: '300 per minute by ip',                                   says: 'Limits of every route that has none of its own.' },
  { name: 'authFailureLimits',        env: 'AUTH_FAILURE_LIMITS',         kind: limits('ip'),                     default: '60 per minute by ip',                                    says: 'Limits of failed authentication, over all routes together.' },
  { name: 'limitKeys',                env: 'LIMIT_KEYS',                  kind: whole(1_000, 10_000_000),         default: '200000',                                                 says: 'How many counters each process keeps in memory; beyond, newcomers share.' },

  // Gate 6, CSRF
  { name: 'cookies',                  env: 'COOKIES',                     kind: yesNo,                            default: 'true',                                                   says: 'Whether a login may ask for its tokens in cookies. False: no cookie is set or read.' },
  { name: 'cookieSamesite',           env: 'COOKIE_SAMESITE',             kind: oneOf('Strict', 'Lax', 'None'),   default: 'Strict',                                                 says: 'SameSite of the cookies. "None" lets the front ends of CORS_ORIGINS stand on other sites, where the browser still allows that.' },

  // Passwords
  { name: 'passwordMinLength',        env: 'PASSWORD_MIN_LENGTH',         kind: whole(8, 64),                     default: '15',                                                     says: 'The shortest password that may be set, in characters.' },
] as const satisfies readonly Row[];

type Rows = (typeof table)[number];
type Value<R> = R extends { kind: Kind<infer T> } ? (R extends { default: string } ? T : T | undefined) : never;

/** Every row of the table by its name: spans in milliseconds, `undefined` where nothing is set. */
export type Settings = { readonly [R in Rows as R['name']]: Value<R> };
export type SettingName = keyof Settings;

/** What must be true of several settings together, or only under one command. */
export type Demand<N extends SettingName = SettingName> = {
  /** All that `isBroken` looks at; the first is the one that is complained of. */
  readonly of: readonly [N, ...N[]];
  readonly under?: Mode;
  isBroken(settings: Pick<Settings, N>): boolean;
  readonly says: string;
};

export const demands: readonly Demand[] = [
  demand({ of: ['host'], under: 'dev', isBroken: ({ host }) => !isLoopback(host), says: 'the demo has a password that everyone knows, so dev listens on loopback only: write "127.0.0.1", "::1" or "localhost", or run serve' }),
  demand({ of: ['database'], under: 'dev', isBroken: ({ database }) => database.engine !== 'sqlite', says: 'dev keeps a store of its own, on SQLite: leave it out, or run serve' }),
  demand({ of: ['redisUrl', 'database'], isBroken: ({ redisUrl, database }) => redisUrl !== undefined && database.engine === 'sqlite', says: 'a store on SQLite has one process, which counts in its memory: leave this out, or set PORTCULLIS_DATABASE_URL to a PostgreSQL' }),
  demand({ of: ['redisTlsCaFile', 'redisUrl'], isBroken: (of) => of.redisTlsCaFile !== undefined && !of.redisUrl?.startsWith('rediss'), says: 'nobody is asked for a certificate without TLS: begin PORTCULLIS_REDIS_URL with "rediss", or leave this out' }),
  demand({ of: ['redisSentinelPassword', 'redisUrl'], isBroken: (of) => of.redisSentinelPassword !== undefined && !of.redisUrl?.includes('+sentinel:'), says: 'there is no sentinel to give it to: name them in PORTCULLIS_REDIS_URL, as "redis+sentinel://HOST:PORT,HOST:PORT/MASTER", or leave this out' }),
  demand({ of: ['workers', 'database'], isBroken: ({ workers, database }) => workers > 1 && database.engine === 'sqlite', says: 'a store on SQLite belongs to one process: leave this out, or set PORTCULLIS_DATABASE_URL to a PostgreSQL, and PORTCULLIS_REDIS_URL' }),
  demand({ of: ['workers', 'redisUrl', 'database'], isBroken: ({ workers, redisUrl, database }) => workers > 1 && redisUrl === undefined && database.engine !== 'sqlite', says: 'without a Redis each worker would count limits for itself, and so many times as much would be let in: set PORTCULLIS_REDIS_URL, or leave this out' }),
  demand({ of: ['adminListen'], under: 'dev', isBroken: ({ adminListen }) => adminListen !== undefined && !isLoopback(adminListen.host), says: 'dev listens on loopback only: write "127.0.0.1:5001" or "none"' }),
  demand({ of: ['issuer'], under: 'serve', isBroken: ({ issuer }) => issuer === undefined, says: 'serve needs the URL of this server as callers know it, such as "https://api.example.com"' }),
  demand({ of: ['masterSecret'], under: 'serve', isBroken: ({ masterSecret }) => masterSecret === undefined, says: 'serve needs a secret: put what "openssl rand -base64 32" prints into a file, and name that in PORTCULLIS_MASTER_SECRET_FILE' }),
  demand({ of: ['masterSecretPrevious', 'masterSecret'], isBroken: (of) => of.masterSecretPrevious !== undefined && of.masterSecretPrevious === of.masterSecret, says: 'this is the current one: put the one of before here, or leave it out' }),
  demand({
    of: ['tlsCertFile', 'tlsKeyFile', 'tlsAtProxy'],
    under: 'serve',
    isBroken: ({ tlsCertFile, tlsKeyFile, tlsAtProxy }) => tlsCertFile === undefined && tlsKeyFile === undefined && !tlsAtProxy,
    says: 'serve needs a certificate: set PORTCULLIS_TLS_CERT_FILE and PORTCULLIS_TLS_KEY_FILE; or, where a proxy ends TLS, PORTCULLIS_TLS_AT_PROXY=true and PORTCULLIS_TRUSTED_PROXIES',
  }),
  demand({ of: ['tlsCertFile', 'tlsKeyFile'], isBroken: ({ tlsCertFile, tlsKeyFile }) => (tlsCertFile === undefined) !== (tlsKeyFile === undefined), says: 'PORTCULLIS_TLS_CERT_FILE and PORTCULLIS_TLS_KEY_FILE are set together or not at all' }),
  demand({ of: ['tlsAtProxy', 'tlsCertFile'], isBroken: ({ tlsAtProxy, tlsCertFile }) => tlsAtProxy && tlsCertFile !== undefined, says: 'TLS ends either at the proxy or here: leave out this, or PORTCULLIS_TLS_CERT_FILE and PORTCULLIS_TLS_KEY_FILE' }),
  demand({ of: ['tlsClientAuth', 'tlsClientCaFile'], isBroken: (of) => of.tlsClientAuth !== 'none' && of.tlsClientCaFile === undefined, says: 'name the authorities whose certificates clients may show in PORTCULLIS_TLS_CLIENT_CA_FILE' }),
  demand({ of: ['tlsClientCaFile', 'tlsClientAuth'], isBroken: (of) => of.tlsClientCaFile !== undefined && of.tlsClientAuth === 'none', says: 'nobody would be asked for a certificate: set PORTCULLIS_TLS_CLIENT_AUTH to "required" or "optional" too, or leave this out' }),
  demand({ of: ['tlsClientAuth', 'tlsAtProxy'], isBroken: (of) => of.tlsClientAuth !== 'none' && of.tlsAtProxy, says: 'where TLS ends at a proxy, the proxy asks clients for certificates: leave this out' }),
  demand({ of: ['tlsAtProxy', 'trustedProxies'], isBroken: ({ tlsAtProxy, trustedProxies }) => tlsAtProxy && trustedProxies.length === 0, says: 'name the proxy that ends TLS in PORTCULLIS_TRUSTED_PROXIES' }),
  demand({ of: ['trustedProxyHeader', 'trustedProxies'], isBroken: ({ trustedProxyHeader, trustedProxies }) => trustedProxyHeader !== 'x-forwarded-for' && trustedProxies.length === 0, says: 'it is believed of declared proxies only: name them in PORTCULLIS_TRUSTED_PROXIES' }),
  demand({ of: ['refreshTokenTtlMs', 'accessTokenTtlMs'], isBroken: (of) => of.refreshTokenTtlMs < of.accessTokenTtlMs, says: 'a session may not end before its first access token: make this at least as long as PORTCULLIS_ACCESS_TOKEN_TTL' }),
  demand({ of: ['sessionIdleTtlMs', 'accessTokenTtlMs'], isBroken: (of) => of.sessionIdleTtlMs !== undefined && of.sessionIdleTtlMs < of.accessTokenTtlMs, says: 'a session would be idle before its first refresh is due: make this at least as long as PORTCULLIS_ACCESS_TOKEN_TTL' }),
  demand({ of: ['auditRetentionMs', 'refreshTokenTtlMs'], isBroken: (of) => of.auditRetentionMs < of.refreshTokenTtlMs, says: 'a session may not outlive the record of its login: make this at least as long as PORTCULLIS_REFRESH_TOKEN_TTL' }),
  demand({ of: ['defaultLimits'], isBroken: (of) => of.defaultLimits.length === 0, says: 'no route may be without an address limit: name at least one' }),
  demand({ of: ['authFailureLimits'], isBroken: (of) => of.authFailureLimits.length === 0, says: 'no route may be without an address limit: name at least one' }),
];

/** What may be so, and is seldom meant: a note at the start, of the same form. */
export const doubts: readonly Demand[] = [
  demand({
    of: ['tlsAtProxy', 'trustedProxyHeader'],
    isBroken: ({ tlsAtProxy, trustedProxyHeader }) => tlsAtProxy && trustedProxyHeader === 'proxy-protocol',
    says: 'that the caller used TLS can only be told by the SSL part of version 2 (of HAProxy: send-proxy-v2-ssl); every request that comes without it is refused',
  }),
  demand({ of: ['ipv6Prefix'], isBroken: ({ ipv6Prefix }) => ipv6Prefix > 64, says: 'one subscriber has a /64, and so as many addresses as he likes: no limit by address binds him' }),
];

/** Holds `isBroken` to the settings that `of` names, so that it is never asked about one that could not be read. */
function demand<const N extends SettingName>(row: Demand<N>): Demand {
  return row;
}

/** `PORTCULLIS_ACCESS_TOKEN_TTL` */
export const variableOf = (row: Row): string => `PORTCULLIS_${row.env}`;

/** `accessTokenTtl`: the key in the file, and what a parser of flags makes of the flag. */
export const keyOf = (row: Row): string => row.env.toLowerCase().replace(/_(.)/g, (_, letter: string) => letter.toUpperCase());

/** `--access-token-ttl` */
export const flagOf = (row: Row): string => `--${row.env.toLowerCase().replaceAll('_', '-')}`;
