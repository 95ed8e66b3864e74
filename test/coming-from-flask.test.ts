import assert from 'node:assert/strict';
import { execFileSync, spawnSync } from 'node:child_process';
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import type { ProblemRow } from '@portcullis/guard';
import { commands, commonOptions } from '../packages/server/src/cli/commands.ts';
import { problems } from '../packages/server/src/domain/problem.ts';
import { type Row, table, variableOf } from '../packages/server/src/settings/table.ts';
import { cors } from '../packages/guard/src/cors.ts';
import { foreign, foreignErrors } from './coming-from-flask/foreign-names.ts';
import { demoUser, folderFor, logIn, runCommand, startProgram, wideLimits } from './support/program.ts';
import { without } from './support/needs.ts';
import { openMint } from './support/mint.ts';
import { forge, keys, publicJwk, type Vector, vectors } from './vectors/forge.ts';

const root = fileURLToPath(new URL('..', import.meta.url));
const page = readFileSync(`${root}docs/explanation/coming-from-flask.md`, 'utf8');
const fences = [...page.matchAll(/^( *)```(\w+)\n([^]*?)^ *```$/gm)].map(([, indent = '', language = '', text = '']) => ({
  language,
  text: text.replaceAll(new RegExp(`^${indent}`, 'gm'), ''),
}));
const prose = page.replaceAll(/^ *```\w+\n[^]*?^ *```$/gm, '');
const marksOf = (text: string): string[] => [...text.matchAll(/`([^`\n]+)`/g)].map(([, mark = '']) => mark);
const marks = marksOf(prose);
const blocks = (language: string): string[] => fences.filter((fence) => fence.language === language).map(({ text }) => text);
/** The block behind the comment that names its file. */
const file = (name: string): string =>
  new RegExp(`<!-- ${name} -->\\n\`\`\`\\w+\\n([^]*?)^\`\`\`$`, 'm').exec(page)?.[1] ?? assert.fail(name);

/** What stands in code marks and looks like a code of a problem, but is a field, a claim or a function of ours. */
const fields = new Set(
  'access_token refresh_token csrf_token device_token token_type expires_in client_id auth_time logged_in_as csrf_access_token'.split(' '),
);
const rows: Readonly<Record<string, ProblemRow>> = problems;
const settings: readonly Row[] = table;

describe('what the page names is there', () => {
  test('settings', () => {
    const variables = new Set(settings.map(variableOf));
    const named = new Set(page.match(/PORTCULLIS_[A-Z\d_]*[A-Z\d]/g));
    assert.ok(named.size > 20, `${named.size}`);
    assert.deepEqual(
      [...named].filter((name) => !variables.has(name)),
      [],
    );
  });

  test('problems, each with its status', () => {
    const foreignWords = new Set(Object.values(foreign).flat());
    const codes = marks.filter((mark) => /^[a-z]+(_[a-z]+)+$/.test(mark) && !fields.has(mark) && !foreignWords.has(mark));
    assert.ok(codes.length > 30, `${codes.length}`);
    assert.deepEqual(
      [...new Set(codes)].filter((code) => !Object.hasOwn(rows, code)),
      [],
    );
    for (const [, status = '', code = ''] of prose.matchAll(/\b([45]\d\d) `([a-z]+_[a-z_]+)`/g))
      assert.equal(rows[code]?.status, Number(status), code);
    for (const [, code = '', msg = ''] of file('app.py').matchAll(/refusal\('(\w+)', '([^']+)'\)/g))
      assert.deepEqual([rows[code]?.status, rows[code]?.msg ?? rows[code]?.title], [401, msg]);
  });

  test('commands, and the options that they are shown with', () => {
    const lines = [...marks, ...blocks('sh').flatMap((block) => block.split('\n'))];
    const shown = lines.flatMap((line) => [...line.matchAll(/\bportcullis ([a-z]+)(?: ([a-z][a-z-]*))?([^|;&]*)/g)]);
    assert.ok(shown.length > 10, `${shown.length}`);
    for (const [line, first = '', second = '', rest = ''] of shown) {
      const command = commands.find(({ name }) => name === `${first} ${second}`) ?? commands.find(({ name }) => name === first);
      assert.ok(command, line);
      const options = new Set(
        Object.keys({ ...command.options, ...commonOptions }).map((key) => key.replaceAll(/[A-Z]/g, (c) => `-${c.toLowerCase()}`)),
      );
      for (const [, option = ''] of rest.matchAll(/ --([a-z-]+)/g)) assert.ok(options.has(option), `${line}: --${option}`);
    }
  });

  test('options of the guard', () => {
    const source = readFileSync(`${root}packages/guard/src/guard.ts`, 'utf8');
    const named = [...prose.matchAll(/\boption `(\w+)`/g)].map(([, name]) => name ?? '');
    assert.deepEqual(named.toSorted(), ['cookies', 'counters', 'onRefused', 'revocations']);
    for (const name of named) assert.ok(new RegExp(`^  readonly ${name}\\??:`, 'm').test(source), name);
  });

  test('the defaults that it quotes, and the headers of CORS', () => {
    const [quoted = ''] = blocks('sh');
    for (const [, variable = '', value = ''] of quoted.matchAll(/^(PORTCULLIS_\w+)='([^']+)'$/gm))
      assert.equal(settings.find((row) => variableOf(row) === variable)?.default, value, variable);
    const { exposed, preflight } = cors({ origins: [], maxAgeMs: 0 });
    const headersAt = (option: string): string =>
      marksOf(prose.split('\n').find((line) => line.startsWith(`| \`${option}\``)) ?? '')
        .slice(1)
        .join(', ');
    assert.equal(headersAt('expose_headers'), exposed);
    assert.equal(headersAt('allow_headers').toLowerCase(), preflight([])['access-control-allow-headers']);
  });
});

describe('what the libraries name is on the page', () => {
  const sections = new Map(page.split(/^## /m).map((section) => [section.slice(0, section.indexOf('\n')), section]));

  for (const [library, names] of Object.entries(foreign))
    test(`${library}: each of ${names.length}`, () => {
      const words = new Set(marksOf(sections.get(library) ?? '').flatMap((mark) => mark.match(/[\w.]+/g) ?? []));
      assert.deepEqual(
        names.filter((name) => !words.has(name)),
        [],
      );
    });

  test('each error that a client of the old app may know', () => {
    for (const [library, texts] of Object.entries(foreignErrors))
      assert.deepEqual(
        texts.filter((text) => !sections.get(library)?.includes(text)),
        [],
      );
  });
});

test('its routes start behind the gates, and do what the decorators did', async (t) => {
  const [source = ''] = blocks('ts');
  const index = (name: string): string => `'${new URL(`../packages/${name}/src/index.ts`, import.meta.url).href}'`;
  const folder = folderFor(t);
  const entry = join(folder, 'reports.ts');
  writeFileSync(entry, source.replace("'@portcullis/guard'", index('guard')).replace("'portcullis'", index('server')));
  const program = await startProgram(t, { entry, settings: { LOGIN_LIMITS: '100 per minute' } });
  const { access } = await logIn(program);

  const hello = async (bearer?: string) => (await program.ask('GET', '/news', bearer === undefined ? {} : { bearer })).json;
  assert.deepEqual([await hello(), await hello(access)], [{ hello: 'stranger' }, { hello: demoUser.username }]);
  assert.equal((await hello('x')).code, 'token_invalid', 'a token that is sent must be good');

  assert.equal((await program.ask('GET', '/reports')).json.code, 'token_missing');
  assert.deepEqual((await program.ask('GET', '/reports', { bearer: access })).json, { reports_of: demoUser.username });
  for (let i = 0; i < 3; i += 1) assert.equal((await program.ask('GET', '/reports', { bearer: access })).status, 200);
  assert.equal((await program.ask('GET', '/reports', { bearer: access })).json.code, 'rate_limited');

  const statuses = [];
  for (let i = 0; i < 3; i += 1) statuses.push((await program.ask('DELETE', '/reports', { bearer: access })).status);
  assert.deepEqual(statuses, [204, 204, 429]);
  assert.equal(await program.stop(), 0);
});

test('its lines for users add each name with a password of its own', async (t) => {
  const folder = folderFor(t);
  const lines = blocks('sh').find((block) => block.includes('users add')) ?? '';
  writeFileSync(join(folder, 'names.txt'), 'ann\nBjörk Guðmundsdóttir\n');
  execFileSync('sh', ['-euc', lines.replaceAll('npx portcullis', 'portcullis')], {
    cwd: folder,
    stdio: 'pipe',
    env: { PATH: `${root}node_modules/.bin:${process.env.PATH}`, PORTCULLIS_DATA_DIR: folder },
  });
  const written = readFileSync(join(folder, 'first-passwords.tsv'), 'utf8');
  assert.match(written, /^ann\t\S{24}\nBjörk Guðmundsdóttir\t\S{24}\n$/);
  const { stdout } = await runCommand(['users', 'list', '--json'], { env: { PORTCULLIS_DATA_DIR: folder } });
  assert.deepEqual(
    JSON.parse(stdout)
      .map(({ username }: { username: string }) => username)
      .toSorted(),
    ['Björk Guðmundsdóttir', 'ann'],
  );
});

/** Debian's Python, which has PyJWT where python3-jwt is installed. */
const PYTHON = '/usr/bin/python3';
const canRun = (code: string): boolean => spawnSync(PYTHON, ['-c', code]).status === 0;
const hasPyJwt = canRun('import jwt, cryptography');

test('its Python is Python', { skip: without('python3', canRun('')) }, () => {
  for (const source of blocks('python'))
    execFileSync(PYTHON, ['-c', 'import ast, sys; ast.parse(sys.stdin.read())'], { input: source, stdio: 'pipe' });
});

describe('a Flask service that stays', { skip: without('PyJWT', hasPyJwt) }, () => {
  /** What `access.py` says of each token: the username, or the class of the error. */
  function judge(issuer: string, tokens: readonly string[], { ca, jwks }: { ca?: string; jwks?: unknown }): string[] {
    const driver = `
import json, sys, types
given = json.load(sys.stdin)
access = types.ModuleType('access')
exec(given['access'], access.__dict__)
import jwt
if given['jwks']: access.jwks.get_jwk_set = lambda: jwt.PyJWKSet.from_dict(given['jwks'])
def judge(token):
    try: return 'good: ' + repr(access.caller_of(token).get('username'))
    except jwt.ExpiredSignatureError: return 'expired'
    except jwt.InvalidTokenError: return 'invalid'
    except Exception as error: return 'fault: ' + repr(error)
json.dump([judge(token) for token in given['tokens']], sys.stdout)`;
    const access = file('access.py').replace('https://api.example.com', issuer);
    const input = JSON.stringify({ access, tokens, jwks: jwks ?? null });
    return JSON.parse(
      execFileSync(PYTHON, ['-c', driver], { input, encoding: 'utf8', env: { PATH: process.env.PATH, ...(ca && { SSL_CERT_FILE: ca }) } }),
    );
  }

  test('takes what the server gave, and nothing that was changed', async (t) => {
    const program = await startProgram(t, { settings: wideLimits });
    const { access, refresh } = await logIn(program);
    const issuer = JSON.parse(Buffer.from(access.split('.')[1] ?? '', 'base64url').toString()).iss;
    const mint = await openMint(program);
    const tokens = [
      access,
      refresh,
      '',
      `${access.slice(0, -8)}AAAAAAAA`,
      await mint(access, { exp: 1_700_000_000 }),
      await mint(access, { aud: 'another' }),
      await mint(access, { iss: 'https://another.example' }),
      await mint(access, { sid: undefined }),
      await mint(access, {}, { typ: 'JWT' }),
      await mint(access, {}, { kid: 'another' }),
    ];
    const [good, ...others] = judge(issuer, tokens, { ca: join(program.folder, 'ca.pem') });
    assert.equal(good, `good: '${demoUser.username}'`);
    assert.deepEqual(others, ['invalid', 'invalid', 'invalid', 'expired', ...Array(5).fill('invalid')]);
  });

  test('takes no token that another key signed, or that is of another kind, issuer or audience; and trips over none', () => {
    const nowS = Math.floor(Date.now() / 1_000);
    const times = { iat: nowS, nbf: nowS, exp: nowS + 900, auth_time: nowS };
    const names = { iss: 'https://issuer.example', aud: 'portcullis', sub: 'usr_1', client_id: 'portcullis', sid: 'ses_1', jti: 'tok_1' };
    const claims = { ...names, ...times, scope: '', username: 'ada' };
    const { stranger: _, HS256: __, ...published } = keys;
    const sent = vectors.filter(({ clockMs, name }) => clockMs === undefined && !name.startsWith('a compromised key')); // which is in no JWKS
    const tokens = sent.map((vector) => forge(vector, { claims, nowS, keys }));
    const verdicts = judge(names.iss, tokens, { jwks: { keys: Object.values(published).map(publicJwk) } });
    const taken = sent.filter((_, i) => verdicts[i]?.startsWith('good'));

    assert.deepEqual(
      verdicts.filter((verdict) => verdict.startsWith('fault')),
      [],
    );
    assert.ok(taken.some(({ name }) => name === 'good, EdDSA'));
    // Where PyJWT is milder than the guard, only the issuer's own key could have signed it, or it is one good token in another spelling.
    const milder = taken.filter((vector) => !('accepted' in vector) && !isIssuersOwn(vector));
    assert.deepEqual(
      milder.map(({ name }) => name),
      [],
    );
    assert.ok(sent.length - taken.length > 100, `${taken.length} of ${sent.length} taken`);
  });
});

const respelled = ['signature padded', 'signature in base64 with + and /', 'EdDSA signature, unused bits set', 'too long'];
const isIssuersOwn = (vector: Vector): boolean =>
  respelled.includes(vector.name) ||
  vector.name === 'expires now' || // its leeway
  ('reason' in vector &&
    /^(header (?!crit)|claims |(sub|client_id|sid|jti|username|scope|exp|iat|nbf|auth_time)$)/.test(vector.reason ?? ''));
