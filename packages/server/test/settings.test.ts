import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { duration, type Kind, listen } from '../src/settings/kinds.ts';
import { type Reading, readSettings, showSettings, type Sources } from '../src/settings/read.ts';
import { settingsReference } from '../../../tools/reference/settings.ts';
import { demands, flagOf, keyOf, type Row, table, variableOf } from '../src/settings/table.ts';

const SECRET = 'q3ZkT0v9yX7uB1nLw5cRj8sHd2fGm6aE4pKi';
const rows: readonly Row[] = table;

type Given = { mode?: Sources['mode']; env?: Sources['env']; flags?: Sources['flags']; files?: Record<string, string> };

function read({ mode = 'dev', env = {}, flags = {}, files = {} }: Given): Reading {
  const readFile = (path: string) => {
    const text = files[path];
    if (text === undefined) throw Object.assign(new Error(`no such file, open '${path}'`), { code: 'ENOENT' });
    return text;
  };
  return readSettings({ mode, env, flags, readFile });
}

function settingsOf(given: Given) {
  const reading = read(given);
  assert.ok('settings' in reading, `mistakes: ${'mistakes' in reading && reading.mistakes.join('\n')}`);
  return reading;
}

/** A refusal gives mistakes and nothing else: no settings that something could start with. */
function mistakesOf(given: Given): readonly string[] {
  const reading = read(given);
  assert.ok('mistakes' in reading, 'expected mistakes');
  assert.equal('settings' in reading, false);
  for (const mistake of reading.mistakes) assert.doesNotMatch(mistake, /[\r\n]/);
  return reading.mistakes;
}

function mistakeOf(given: Given): string {
  const mistakes = mistakesOf(given);
  assert.equal(mistakes.length, 1, mistakes.join('\n'));
  return mistakes[0] ?? '';
}

const env = (name: string, text: string): Given => ({ env: { [`PORTCULLIS_${name}`]: text } });
const file = (content: unknown): Given => ({
  env: { PORTCULLIS_CONFIG_FILE: 'conf.json' },
  files: { 'conf.json': typeof content === 'string' ? content : JSON.stringify(content) },
});

const named = { PORTCULLIS_ISSUER: 'https://api.example.com', PORTCULLIS_MASTER_SECRET: SECRET };
const served = { ...named, PORTCULLIS_TLS_CERT_FILE: 'cert.pem', PORTCULLIS_TLS_KEY_FILE: 'key.pem' };

test('dev starts with nothing set, on loopback, with the origin of the demo', () => {
  const { settings, origins, notes } = settingsOf({});
  assert.equal(settings.host, '127.0.0.1');
  assert.equal(settings.port, 5000);
  assert.equal(settings.adminListen, undefined);
  assert.equal(settings.dataDir, '.portcullis/dev');
  assert.deepEqual(settings.corsOrigins, ['https://your-frontend.com']);
  assert.equal(settings.accessTokenTtlMs, 15 * 60_000);
  assert.equal(settings.refreshTokenTtlMs, 7 * 86_400_000);
  assert.equal(settings.sessionIdleTtlMs, undefined);
  assert.deepEqual(settings.database, { engine: 'sqlite', file: 'portcullis.db' });
  assert.deepEqual(
    settings.loginLimits.map(({ max, windowMs, by }) => [max, windowMs, by]),
    [[3, 60_000, 'ip']],
  );
  assert.equal(settings.issuer, undefined);
  assert.equal(settings.masterSecret, undefined);
  assert.equal(origins['host'], 'dev');
  assert.equal(origins['port'], 'default');
  assert.deepEqual(notes, []);
});

test('serve starts with an issuer, a secret and a certificate, and lets no origin in by itself', () => {
  const { settings } = settingsOf({ mode: 'serve', env: served });
  assert.equal(settings.host, '0.0.0.0');
  assert.deepEqual(settings.adminListen, { host: '127.0.0.1', port: 5001 });
  assert.deepEqual(settings.corsOrigins, []);
  assert.equal(settings.masterSecret, SECRET);
});

test('serve says all that it needs at once, beside every other mistake', () => {
  const mistakes = mistakesOf({ mode: 'serve', env: { PORTCULLIS_PORT: '99999', PORTCULLIS_AUDIENCE: '' } });
  assert.deepEqual(
    mistakes.map((mistake) => mistake.split(' ')[0]),
    ['PORTCULLIS_PORT', 'PORTCULLIS_AUDIENCE', 'PORTCULLIS_ISSUER', 'PORTCULLIS_MASTER_SECRET', 'PORTCULLIS_TLS_CERT_FILE'],
  );
});

test('a header is believed of declared proxies only, so they must be named', () => {
  for (const header of ['forwarded', 'proxy-protocol']) {
    const env = { ...served, PORTCULLIS_TRUSTED_PROXY_HEADER: header };
    assert.match(mistakeOf({ mode: 'serve', env }), /^PORTCULLIS_TRUSTED_PROXY_HEADER .*PORTCULLIS_TRUSTED_PROXIES/);
    settingsOf({ mode: 'serve', env: { ...env, PORTCULLIS_TRUSTED_PROXIES: '10.0.0.1' } });
  }
});

test('what may be so and is seldom meant is noted, and no mistake', () => {
  const notesOf = (env: Record<string, string>) =>
    readSettings({ mode: 'serve', env: { ...named, ...env }, flags: {}, readFile: () => '' }).notes;
  const proxy = { PORTCULLIS_TLS_AT_PROXY: 'true', PORTCULLIS_TRUSTED_PROXIES: '10.0.0.1' };
  assert.deepEqual(notesOf(proxy), []);
  const [ssl = '', ...others] = notesOf({ ...proxy, PORTCULLIS_TRUSTED_PROXY_HEADER: 'proxy-protocol' });
  assert.match(ssl, /^PORTCULLIS_TLS_AT_PROXY .*send-proxy-v2-ssl/);
  assert.deepEqual(others, []);
  assert.match(notesOf({ ...proxy, PORTCULLIS_IPV6_PREFIX: '65' }).join('\n'), /^PORTCULLIS_IPV6_PREFIX [^\n]*$/);
  assert.deepEqual(notesOf({ ...proxy, PORTCULLIS_IPV6_PREFIX: '56' }), []);
});

test('serve takes a declared TLS proxy in place of a certificate, and not both', () => {
  settingsOf({ mode: 'serve', env: { ...named, PORTCULLIS_TLS_AT_PROXY: 'true', PORTCULLIS_TRUSTED_PROXIES: '10.0.0.0/8' } });
  assert.match(
    mistakeOf({ mode: 'serve', env: { ...named, PORTCULLIS_TLS_AT_PROXY: 'true' } }),
    /^PORTCULLIS_TLS_AT_PROXY \(environment, "true"\): .*PORTCULLIS_TRUSTED_PROXIES/,
  );
  assert.match(
    mistakeOf({ mode: 'serve', env: { ...served, PORTCULLIS_TLS_AT_PROXY: 'true', PORTCULLIS_TRUSTED_PROXIES: '10.0.0.1' } }),
    /^PORTCULLIS_TLS_AT_PROXY .*either at the proxy or here/,
  );
});

test('an operator needs no more than what finds the store, and what is set must be right all the same', () => {
  const { settings, origins } = settingsOf({ mode: 'admin', env: { PORTCULLIS_DATA_DIR: '/var/lib/portcullis' } });
  assert.deepEqual(
    [settings.dataDir, settings.host, settings.issuer, origins['host']],
    ['/var/lib/portcullis', '0.0.0.0', undefined, 'default'],
  );
  assert.match(mistakeOf({ mode: 'admin', env: { PORTCULLIS_PORT: 'http' } }), /^PORTCULLIS_PORT/);
});

test('a setting that is itself wrong is not also called missing', () => {
  assert.match(
    mistakeOf({ mode: 'serve', env: { ...served, PORTCULLIS_ISSUER: 'http://api.example.com' } }),
    /^PORTCULLIS_ISSUER \(environment\): "http:/,
  );
  assert.match(
    mistakeOf({ mode: 'serve', env: { ...served, PORTCULLIS_MASTER_SECRET: 'short' } }),
    /^PORTCULLIS_MASTER_SECRET \(environment\): it is shorter/,
  );
});

test('default < file < environment < flag, and each says where it came from', () => {
  const files = { 'conf.json': '{"port": 6001, "audience": "in-file", "tlsAtProxy": false, "dataDir": "d"}' };
  const { settings, origins } = settingsOf({
    env: { PORTCULLIS_CONFIG_FILE: 'conf.json', PORTCULLIS_PORT: '6002', PORTCULLIS_AUDIENCE: 'in-env', OTHER: 'x' },
    flags: { port: '6003', host: undefined },
    files,
  });
  assert.deepEqual([settings.port, settings.audience, settings.dataDir, settings.host], [6003, 'in-env', 'd', '127.0.0.1']);
  assert.deepEqual(
    [origins['port'], origins['audience'], origins['dataDir'], origins['host'], origins['passwordMinLength']],
    ['flag', 'environment', 'file', 'dev', 'default'],
  );
  assert.equal(
    settingsOf({ env: { PORTCULLIS_CONFIG_FILE: 'not-there.json' }, flags: { configFile: 'conf.json' }, files }).settings.port,
    6001,
  );
});

test('a value that another one hides must be right too', () => {
  assert.match(mistakeOf({ ...env('PORT', 'http'), flags: { port: '5000' } }), /^PORTCULLIS_PORT \(environment\): "http"/);
});

test('the file takes numbers, booleans and arrays where they fit, and says what fits where they do not', () => {
  const { settings } = settingsOf(
    file({
      port: 0,
      maxConnections: '10',
      corsOrigins: ['https://a.example', 'https://b.example'],
      loginLimits: ['3 per minute by ip', '9 per day by username'],
      trustedProxies: [],
    }),
  );
  assert.deepEqual(
    [settings.port, settings.maxConnections, settings.corsOrigins, settings.loginLimits.length, settings.trustedProxies],
    [0, 10, ['https://a.example', 'https://b.example'], 2, []],
  );

  const mistakes = mistakesOf(
    file({ port: true, tlsAtProxy: 1, audience: null, accessTokenTtl: 900_000, corsOrigins: [1], dataDir: {}, configFile: 'x' }),
  );
  assert.deepEqual(
    mistakes.map((mistake) => mistake.split(':')[0]),
    [
      'PORTCULLIS_PORT (file, "port")',
      'PORTCULLIS_TLS_AT_PROXY (file, "tlsAtProxy")',
      'PORTCULLIS_AUDIENCE (file, "audience")',
      'PORTCULLIS_ACCESS_TOKEN_TTL (file, "accessTokenTtl")',
      'PORTCULLIS_CORS_ORIGINS (file, "corsOrigins")',
      'PORTCULLIS_DATA_DIR (file, "dataDir")',
      'PORTCULLIS_CONFIG_FILE (file, "configFile")',
    ],
  );
});

test('a file that is missing, is not JSON or is no object is one mistake', () => {
  assert.match(mistakeOf(env('CONFIG_FILE', 'gone.json')), /"gone\.json": the file cannot be read \(ENOENT\)/);
  assert.match(mistakeOf(file('{"port": 5000,}')), /not JSON \(line 1 column/);
  for (const json of ['[]', 'null', '"x"']) assert.match(mistakeOf(file(json)), /must be one JSON object/);
  assert.match(mistakeOf(env('CONFIG_FILE', '')), /CONFIG_FILE \(environment\): it is empty/);
});

test('a name that does not exist is a mistake, with the one that was meant', () => {
  for (const [given, meant] of [
    ['ACESS_TOKEN_TL', 'ACCESS_TOKEN_TTL'],
    ['ACCESS_TOKEN_TTL_MS', 'ACCESS_TOKEN_TTL'],
    ['MASTER_SECRT_FILE', 'MASTER_SECRET_FILE'],
    ['accessTokenTtl', 'ACCESS_TOKEN_TTL'],
  ] as const) {
    assert.equal(
      mistakeOf(env(given, 'x')),
      `PORTCULLIS_${given} (environment): there is no such setting: did you mean PORTCULLIS_${meant}?`,
    );
  }
  for (const far of ['COLOUR_OF_THE_PAGES', 'ISSUER_FILE'])
    assert.equal(mistakeOf(env(far, 'x')), `PORTCULLIS_${far} (environment): there is no such setting`);
  assert.equal(
    mistakeOf(file({ ACCESS_TOKEN_TTL: '1 hour' })),
    '"ACCESS_TOKEN_TTL" (file): there is no such setting: did you mean accessTokenTtl?',
  );
  assert.match(mistakeOf(file('{"__proto__": {"port": 1}}')), /^"__proto__" \(file\): there is no such setting/);
  assert.equal(mistakeOf({ flags: { prot: '1' } }), '"prot" (flag): there is no such setting: did you mean --port?');
});

test('what Kubernetes sets for a service called portcullis is passed over with one line', () => {
  const links = {
    PORTCULLIS_SERVICE_HOST: '10.0.0.9',
    PORTCULLIS_SERVICE_PORT_HTTPS: '5000',
    PORTCULLIS_PORT: 'tcp://10.0.0.9:5000',
    PORTCULLIS_PORT_5000_TCP_ADDR: '10.0.0.9',
    PORTCULLIS_REDIS_SERVICE_HOST: '10.0.0.8',
    PORTCULLIS_REDIS_PORT: 'tcp://10.0.0.8:6379',
  };
  const { settings, origins, notes } = settingsOf({ env: links });
  assert.deepEqual([settings.port, origins['port']], [5000, 'default']);
  assert.equal(notes.length, 1);
  for (const name of Object.keys(links)) assert.ok(notes[0]?.includes(name));
  assert.equal(read({ env: { ...links, PORTCULLIS_HOST: '' } }).notes.length, 1);
  for (const row of rows)
    assert.doesNotMatch(
      variableOf(row),
      /^PORTCULLIS_(SERVICE|PORT)_|_SERVICE_(HOST|PORT)|_PORT_\d/,
      'a setting may not look like one of them',
    );
  assert.match(mistakeOf(env('REDIS_PORT', '6379')), /no such setting/);
});

test('a secret comes from the environment or a file, never from the command line', () => {
  const { settings, origins } = settingsOf({ ...env('MASTER_SECRET_FILE', 'secret'), files: { secret: `${SECRET}\n` } });
  assert.deepEqual([settings.masterSecret, origins['masterSecret']], [SECRET, 'environment file']);
  assert.equal(
    settingsOf({ ...env('MASTER_SECRET_FILE', 'secret'), files: { secret: ` ${SECRET}\r\n` } }).settings.masterSecret,
    ` ${SECRET}`,
  );
  assert.match(mistakeOf(env('MASTER_SECRET_FILE', 'gone')), /^PORTCULLIS_MASTER_SECRET_FILE \(environment\): .*\(ENOENT\)/);
  assert.match(
    mistakeOf(env('MASTER_SECRET_FILE', '/etc/portcullis/gone')),
    /: the file "\/etc\/portcullis\/gone" cannot be read \(ENOENT\)/,
  );
  assert.match(mistakeOf(env('MASTER_SECRET_FILE', '')), /^PORTCULLIS_MASTER_SECRET_FILE \(environment\): it is empty/);
  assert.match(
    mistakeOf({ env: { PORTCULLIS_MASTER_SECRET: SECRET, PORTCULLIS_MASTER_SECRET_FILE: 'secret' }, files: { secret: SECRET } }),
    /leave one of them out/,
  );
  assert.match(mistakeOf({ flags: { masterSecret: SECRET } }), /command line: set PORTCULLIS_MASTER_SECRET_FILE/);
});

test('a secret that is short, plain, repeated or not text is refused', () => {
  const weak = ['x'.repeat(31), 'a'.repeat(64), '0123456789abcdefg'.repeat(3), '0123456789abcdefg0123456789abcdefg01', `${SECRET}\uFFFD`];
  for (const secret of weak) {
    assert.match(mistakeOf(env('MASTER_SECRET', secret)), /^PORTCULLIS_MASTER_SECRET \(environment\): it /);
    assert.match(mistakeOf({ ...env('MASTER_SECRET_FILE', 'f'), files: { f: secret } }), /^PORTCULLIS_MASTER_SECRET_FILE /);
  }
});

test('no mistake, note or shown value holds a secret, wherever it was put', () => {
  const places: Given[] = [
    env('MASTER_SECRET', SECRET),
    env('MASTER_SECRET', SECRET.slice(0, 20)),
    env('MASTER_SECRET_FILE', SECRET),
    env('MASTER_SECRT', SECRET),
    { flags: { masterSecret: SECRET } },
    env('DATABASE_URL', `postgres://me:${SECRET}@db/x`),
    {
      mode: 'serve',
      env: { ...served, PORTCULLIS_DATABASE_URL: `postgres://me:${SECRET}@db/x`, PORTCULLIS_REDIS_URL: `rediss://:${SECRET}@r` },
    },
    env('REDIS_URL', `http://${SECRET}`),
    { env: { PORTCULLIS_MASTER_SECRET: SECRET, PORTCULLIS_MASTER_SECRET_FILE: SECRET } },
    file(`{"masterSecret": ${SECRET}}`),
    file({ masterSecret: [SECRET] }),
    file({ mastersecret: SECRET }),
    file({ masterSecret: SECRET.slice(0, 20) }),
  ];
  for (const place of places) {
    const reading = read(place);
    const said = JSON.stringify(
      'mistakes' in reading ? [reading.mistakes, reading.notes] : [reading.notes, showSettings(reading.settings, reading.origins, 'dev')],
    );
    assert.equal(said.includes(SECRET.slice(0, 6)), false, said);
  }
  const { settings, origins } = settingsOf(env('MASTER_SECRET', SECRET));
  assert.deepEqual(
    showSettings(settings, origins, 'serve').find(({ name }) => name === 'PORTCULLIS_MASTER_SECRET'),
    { name: 'PORTCULLIS_MASTER_SECRET', value: 'set', origin: 'environment' },
  );
});

test('a database and a Redis are named by URLs, and shown without their passwords', () => {
  const shown = (name: string, text: string) => {
    const { settings, origins } = settingsOf({
      mode: 'serve',
      env: { ...served, PORTCULLIS_DATABASE_URL: 'postgres://me@db/x', [`PORTCULLIS_${name}`]: text },
    });
    return showSettings(settings, origins, 'serve').find((row) => row.name === `PORTCULLIS_${name}`)?.value;
  };
  assert.equal(shown('DATABASE_URL', 'postgres://me@db:5432/x'), 'postgres://me@db:5432/x');
  assert.equal(shown('DATABASE_URL', 'postgresql://me:pa@ss@db/x?sslmode=disable'), 'postgresql://me@db/x?sslmode=disable');
  assert.equal(shown('DATABASE_URL', 'postgres://me:pass@/x?host=/run'), 'postgres://me@/x?host=/run');
  assert.equal(shown('REDIS_URL', 'rediss://me:pass@r:6380/2'), 'rediss://me@r:6380/2');
  for (const wrong of ['postgres://db/x', 'postgres://me@db', 'postgres://me@db/', 'postgres:///x', 'mysql://me@db/x'])
    assert.match(mistakeOf({ mode: 'serve', env: { ...served, PORTCULLIS_DATABASE_URL: wrong } }), /^PORTCULLIS_DATABASE_URL/);
  for (const url of ['unix:///run/redis.sock?db=2', 'redis+sentinel://a:1,b/main/3', 'rediss+cluster://me@a,b'])
    assert.equal(shown('REDIS_URL', url), url);
  for (const wrong of ['redis://', 'http://r', 'r:6379', 'redis+sentinel://a', 'redis+cluster://a/2'])
    assert.match(mistakeOf(env('REDIS_URL', wrong)), /^PORTCULLIS_REDIS_URL/);
});

test('what is set for a way to Redis that is not taken is a mistake', () => {
  const shared = { ...served, PORTCULLIS_DATABASE_URL: 'postgres://me@db/x', PORTCULLIS_REDIS_URL: 'redis://r' };
  for (const [name, value, url] of [
    ['REDIS_TLS_CA_FILE', 'ca.pem', 'rediss://r'],
    ['REDIS_SENTINEL_PASSWORD', 'x', 'rediss+sentinel://r/main'],
  ] as const) {
    const env = { ...shared, [`PORTCULLIS_${name}`]: value };
    assert.match(
      mistakeOf({ mode: 'serve', env }),
      new RegExp(`^PORTCULLIS_${name} .*PORTCULLIS_REDIS_URL \\(environment, "redis://r"\\)`),
    );
    settingsOf({ mode: 'serve', env: { ...env, PORTCULLIS_REDIS_URL: url } });
  }
  assert.equal(settingsOf({ mode: 'serve', env: shared }).settings.redisWaitReplicas, undefined);
  assert.equal(settingsOf({ mode: 'serve', env: { ...shared, PORTCULLIS_REDIS_WAIT_REPLICAS: '2' } }).settings.redisWaitReplicas, 2);
});

test('what is shown can be set again and gives the same settings', () => {
  const first = settingsOf({
    mode: 'serve',
    env: {
      ...served,
      PORTCULLIS_ADMIN_LISTEN: '[::1]:0',
      PORTCULLIS_ACCESS_TOKEN_TTL: '90s',
      PORTCULLIS_SESSION_IDLE_TTL: '36h',
      PORTCULLIS_CORS_ORIGINS: 'https://a.example,https://b.example',
      PORTCULLIS_LOGIN_LIMITS: '3/minute; 10 per day by username',
    },
  });
  const shown = showSettings(first.settings, first.origins, 'serve');
  assert.equal(shown.length, table.length);
  assert.equal(shown.find(({ name }) => name === 'PORTCULLIS_SESSION_IDLE_TTL')?.value, '36 hours');
  const again = Object.fromEntries(
    shown.filter(({ value }) => value !== 'not set').map(({ name, value }) => [name, value === 'set' ? SECRET : value]),
  );
  assert.deepEqual(settingsOf({ mode: 'serve', env: again }).settings, first.settings);
});

test('any duration and any place to listen on is shown as a text that reads back', () => {
  const spans = duration('0', '4000 days');
  fc.assert(
    fc.property(
      fc.integer({ min: 0, max: 400 * 86_400 }).chain((s) => fc.constantFrom(s, s * 1_000)),
      (ms) => assert.equal(spans.parse(spans.show(ms)), ms),
    ),
  );
  fc.assert(
    fc.property(
      fc.record(
        { host: fc.oneof(fc.ipV4(), fc.ipV6(), fc.constant('localhost')), port: fc.integer({ min: 0, max: 65_535 }) },
        { noNullPrototype: true },
      ),
      (at) => assert.deepEqual(listen.parse(listen.show(at)), at),
    ),
  );
});

test('a duration has a unit', () => {
  for (const [text, ms] of [
    ['15 minutes', 900_000],
    ['10 s', 10_000],
    ['90s', 90_000],
    ['1h', 3_600_000],
  ] as const)
    assert.equal(settingsOf(env('ACCESS_TOKEN_TTL', text)).settings.accessTokenTtlMs, ms);
  assert.equal(settingsOf(env('REFRESH_GRACE', '500 ms')).settings.refreshGraceMs, 500);
  assert.equal(settingsOf(env('REFRESH_GRACE', '0')).settings.refreshGraceMs, 0);
  assert.match(mistakeOf(env('ACCESS_TOKEN_TTL', '5')), /"5" has no unit: write "5 minutes" or "5 hours"$/m);
  assert.match(mistakeOf(env('KEY_ROTATION', '30')), /"30" has no unit: write "30 hours" or "30 days"; or write "never"$/m);
  assert.match(mistakeOf(env('REFRESH_GRACE', '500')), /"500" has no unit: write a duration from "0" to "5 minutes"$/m);
  for (const text of ['0', '9 s', '25 hours', '-5 minutes', '1.5 hours', 'soon', ' ', '5 parsecs'])
    assert.match(mistakeOf(env('ACCESS_TOKEN_TTL', text)), /^PORTCULLIS_ACCESS_TOKEN_TTL \(environment\): "/);
});

test('every kind takes what is right and refuses what is not', () => {
  const cases: Record<string, { right: string[]; wrong: string[] }> = {
    HOST: {
      right: ['127.0.0.2', '::1', 'localhost', '::ffff:127.0.0.1'],
      wrong: ['example.com', '127.0.0', '[::1]', '0.0.0.0', '::', '192.168.1.2', 'fe80::1%lo'],
    },
    PORT: { right: ['0', '65535'], wrong: ['65536', '-1', '05000', '5e3', '5000 ', '0x10', 'NaN', '1.0'] },
    ADMIN_LISTEN: {
      right: ['none', '127.0.0.1:0', '[::1]:5001', 'localhost:5001'],
      wrong: ['5001', '::1:5001', '[127.0.0.1]:5001', '127.0.0.1', '127.0.0.1:70000', 'host:5001', 'off', '0.0.0.0:5001'],
    },
    DATABASE_URL: {
      right: ['sqlite:x.db', 'sqlite:/abs/x.db', 'sqlite::memory:'],
      wrong: [
        'postgres://h/d',
        'postgresql://h/d',
        'sqlite:',
        'sqlite://x.db',
        'sqlite::memory',
        'sqlite:x.db?mode=ro',
        'x.db',
        'mysql://h',
      ],
    },
    DATA_DIR: { right: ['.', '/var/lib/x'], wrong: [' ', 'a\0b'] },
    TLS_AT_PROXY: { right: ['false'], wrong: ['yes', '1', 'TRUE', 'False'] },
    TRUSTED_PROXIES: {
      right: ['', '10.0.0.1', '10.0.0.0/8, fd00::/8', '::1/128'],
      wrong: [
        '10.0.0.0/33',
        'fd00::/129',
        '10.0.0.1/',
        '10.0.0.1/8/8',
        'proxy',
        '10.0.0.1,',
        '0.0.0.0/0',
        '::/0',
        'fe80::1%eth0',
        '10.0.0.1/-1',
      ],
    },
    TRUSTED_PROXY_HEADER: { right: ['x-forwarded-for'], wrong: ['X-Forwarded-For', 'x-real-ip', 'none', 'forwarded', 'proxy-protocol'] },
    IPV6_PREFIX: { right: ['32', '56', '64', '128'], wrong: ['31', '129', '/64', '64.5'] },
    ISSUER: {
      right: ['https://api.example.com', 'https://api.example.com:8443/auth'],
      wrong: [
        'http://api.example.com',
        'api.example.com',
        'https://api.example.com/',
        'https://api.example.com/a/',
        'https://api.example.com?x',
        'https://api.example.com#',
        'https://API.example.com',
        'https://u:p@api.example.com',
        'https://api.example.com:443',
      ],
    },
    AUDIENCE: { right: ['api', 'https://api.example.com'], wrong: ['two words', 'a\nb', 'ä', 'x'.repeat(201)] },
    SIGNING_ALG: { right: ['EdDSA', 'ES256', 'RS256', 'PS256'], wrong: ['HS256', 'none', 'eddsa', 'PS384'] },
    KEY_ROTATION: { right: ['never', '1 day', '400 days'], wrong: ['0', '23 hours', '401 days', 'off', '30'] },
    SESSIONS_PER_USER: { right: ['1', '10000'], wrong: ['0', '10001', '1,000'] },
    PASSWORD_MIN_LENGTH: { right: ['8', '64'], wrong: ['7', '65'] },
    SESSION_IDLE_TTL: { right: ['off', '1 hour'], wrong: ['0', 'none', 'Off'] },
    LOGIN_LIMITS: {
      right: ['', '3 per minute by ip', '3 per minute; 20 per day by username'],
      wrong: ['3 per minute by caller', '3', '3 per minute; 3 per minute by ip', '5 per fortnight'],
    },
    REFRESH_LIMITS: { right: ['30 per minute'], wrong: ['30 per minute by caller', '30 per minute by username'] },
    LOGOUT_LIMITS: { right: ['3 per minute by ip'], wrong: ['3 per minute by username'] },
    PROTECTED_LIMITS: { right: ['3 per minute by caller'], wrong: ['3 per minute by username'] },
    DEFAULT_LIMITS: { right: ['3 per minute by ip'], wrong: ['3 per minute by caller'] },
    AUTH_FAILURE_LIMITS: { right: ['3 per minute by ip'], wrong: ['3 per minute by caller'] },
  };
  for (const [name, { right, wrong }] of Object.entries(cases)) {
    for (const text of right) settingsOf(env(name, text));
    for (const text of wrong)
      assert.match(mistakeOf(env(name, text)), new RegExp(`^PORTCULLIS_${name} \\(environment[,)]`), `${name}=${text}`);
  }
});

test('empty is a list of nothing, and a mistake for everything else', () => {
  for (const row of rows) {
    const given = env(row.env, '');
    if (['defaultLimits', 'authFailureLimits'].includes(row.name)) assert.match(mistakeOf(given), /name at least one/);
    else if (row.kind.separator) settingsOf(given);
    else assert.match(mistakeOf(given), /it is empty: leave it out, or write /);
  }
});

test('an origin is exact, and the right spelling is offered', () => {
  for (const text of [
    'https://a.example',
    'https://a.example:8443',
    'http://localhost:3000',
    'http://127.0.0.1:8080',
    'http://localhost',
    'http://[::1]:3000',
    'https://a.example, https://b.example',
  ])
    settingsOf(env('CORS_ORIGINS', text));
  for (const [text, right] of [
    ['https://a.example/', 'https://a.example'],
    ['https://a.example/app', 'https://a.example'],
    ['https://A.example', 'https://a.example'],
    ['https://a.example:443', 'https://a.example'],
    ['http://a.example', 'https://a.example'],
    ['a.example', 'https://a.example'],
    ['http://localhost:3000/', 'http://localhost:3000'],
    ['https://u:p@a.example', 'https://a.example'],
    ['http://localhost.a.example', 'https://localhost.a.example'],
  ] as const) {
    assert.ok(mistakeOf(env('CORS_ORIGINS', text)).endsWith(`: write "${right}"`), text);
  }
  assert.match(mistakeOf(env('CORS_ORIGINS', '*')), /"\*" would let every site in/);
  assert.match(mistakeOf(env('CORS_ORIGINS', 'null')), /sandboxed page/);
  for (const text of [
    'https://*.a.example',
    '/^https/',
    'https://(a|b).example',
    'file:///x',
    'https://a.example,',
    'https://[a-z].example',
    'https://a .example',
  ])
    mistakeOf(env('CORS_ORIGINS', text));
});

test('settings that contradict each other are refused, with both values', () => {
  const line = mistakeOf({ env: { PORTCULLIS_REFRESH_TOKEN_TTL: '5 minutes' } });
  assert.match(
    line,
    /^PORTCULLIS_REFRESH_TOKEN_TTL \(environment, "5 minutes"\): .*PORTCULLIS_ACCESS_TOKEN_TTL \(default, "15 minutes"\)$/,
  );
  assert.match(mistakeOf(env('SESSION_IDLE_TTL', '5 minutes')), /idle before its first refresh/);
  assert.match(mistakeOf(env('TLS_CERT_FILE', 'c.pem')), /together or not at all/);
  assert.match(mistakeOf(env('TLS_KEY_FILE', 'k.pem')), /together or not at all/);
  settingsOf({ env: { PORTCULLIS_REFRESH_TOKEN_TTL: '15 minutes' } });
});

test('dev is refused any address but loopback, serve is not', () => {
  assert.match(mistakeOf({ flags: { host: '0.0.0.0' } }), /^PORTCULLIS_HOST \(flag, "0\.0\.0\.0"\): .*loopback only/);
  assert.equal(
    settingsOf({ mode: 'serve', env: { ...served, PORTCULLIS_HOST: '192.0.2.1', PORTCULLIS_ADMIN_LISTEN: '0.0.0.0:5001' } }).settings.host,
    '192.0.2.1',
  );
});

test('whatever a setting says, it is taken or refused in a line of its own, and never thrown', () => {
  const text = fc.oneof(
    fc.string({ unit: 'binary' }),
    fc.constantFrom('\n', '5\r\nPORTCULLIS_PORT: fine', '\u2028', '\u001b[2J', '999999999999 days', '%', 'https://', '[', ']:1'),
  );
  fc.assert(
    fc.property(fc.constantFrom(...rows), text, (row, text) => {
      const reading = read(env(row.env, text));
      if ('mistakes' in reading) for (const mistake of reading.mistakes) assert.doesNotMatch(mistake, /[\p{Cc}\u2028\u2029]/u);
    }),
  );
});

test('the table: each default is taken, each name says its unit, no two are alike', () => {
  for (const row of rows) {
    for (const text of [row.default, row.dev]) if (text !== undefined) assert.doesNotThrow(() => row.kind.parse(text), row.name);
    assert.equal(row.name === keyOf(row) || row.name === `${keyOf(row)}Ms` || row.name === 'database', true, row.name);
    assert.match(row.says, /^[A-Z"].*\.$/);
  }
  for (const spell of [(row: Row) => row.name, variableOf, keyOf, flagOf]) assert.equal(new Set(rows.map(spell)).size, rows.length);
  const row: Row = { name: 'xMs', env: 'ACCESS_TOKEN_TTL', kind: duration('0', '1 h') satisfies Kind<number>, says: '' };
  assert.deepEqual([variableOf(row), keyOf(row), flagOf(row)], ['PORTCULLIS_ACCESS_TOKEN_TTL', 'accessTokenTtl', '--access-token-ttl']);
});

test('the reference has a line for every setting and every demand', () => {
  const lines = settingsReference().split('\n');
  for (const row of rows)
    assert.equal(
      lines.filter((line) => line.startsWith(`| \`${variableOf(row)}\` |`) && line.split(' | ').length === 4).length,
      1,
      row.name,
    );
  assert.equal(lines.filter((line) => line.startsWith('- ')).length, demands.length);
});
