import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { accessTokens, fixedKeys, manualClock, Problem } from '@portcullis/guard';
import { openPrivateJwk } from '../packages/server/src/domain/key/key-material.ts';
import { sqliteStore } from '../packages/server/src/storage/sql/sql-store.ts';
import { logIn, type Program, startProgram, wideLimits } from './support/program.ts';
import { forge, keys, type PrivateJwk, publicJwk, type Vector, vectors } from './vectors/forge.ts';

const now = Date.UTC(2026, 0, 1);
const nowS = now / 1_000;
const claims = {
  iss: 'https://issuer.example',
  aud: 'portcullis',
  sub: 'usr_1',
  client_id: 'portcullis',
  sid: 'ses_1',
  jti: 'tok_1',
  iat: nowS,
  nbf: nowS,
  exp: nowS + 900,
  scope: 'notes:read notes:write',
  username: 'ada',
  auth_time: nowS - 60,
};
const { stranger: _stranger, compromised, ...published } = keys;
const trusted = await fixedKeys({ keys: Object.values(published).map(publicJwk) });
const tombstone = { kid: compromised.kid, alg: 'EdDSA', key: 'compromised' } as const;
const known = { find: (kid: string) => (kid === tombstone.kid ? tombstone : trusted.find(kid)) };

/** The clock starts where the vector says, which may be before now. */
const reader = (clockMs = 0) => accessTokens({ issuer: claims.iss, audience: claims.aud, keys: known, clock: manualClock(now + clockMs) });

const outcome = async (token: string, tokens = reader()): Promise<unknown> => {
  try {
    return (await tokens.read(token)).userId;
  } catch (error) {
    assert.ok(error instanceof Problem, `not a Problem: ${String(error)}`);
    return { code: error.code, reason: error.reason };
  }
};

test('every vector has a name of its own, and there are many', () => {
  assert.equal(new Set(vectors.map(({ name }) => name)).size, vectors.length);
  assert.ok(vectors.length > 300, `${vectors.length}`);
});

test('read in this process: each with its code and its reason, the first time and the second', async () => {
  const tokens = reader();
  for (const vector of vectors) {
    const token = forge(vector, { claims, nowS, keys });
    const own = vector.clockMs === undefined ? tokens : reader(vector.clockMs);
    const expected = 'accepted' in vector ? 'usr_1' : { code: vector.code, reason: vector.reason };
    for (const time of ['first', 'second']) assert.deepEqual(await outcome(token, own), expected, `${vector.name}, ${time} time`);
  }
});

test('what a good token says, to the letter', async () => {
  assert.deepEqual(await reader().read(forge({ name: 'good', accepted: true }, { claims, nowS, keys })), {
    userId: 'usr_1',
    username: 'ada',
    sessionId: 'ses_1',
    tokenId: 'tok_1',
    clientId: 'portcullis',
    scopes: ['notes:read', 'notes:write'],
    authenticatedAt: now - 60_000,
    expiresAt: now + 900_000,
  });
});

test('over HTTPS, against the started program and with its own key', async (t) => {
  const program = await startProgram(t, { settings: wideLimits });
  const key = await signingKeyOf(program);
  const { access } = await logIn(program);
  const own = JSON.parse(Buffer.from(access.split('.')[1] ?? '', 'base64url').toString());
  const good = { claims: { ...own, sid: 'ses_00000000000000000000000000000000' }, nowS: own.iat, keys: { ...keys, EdDSA: key } };

  const sent = vectors.filter(canBeSent);
  assert.ok(sent.length > vectors.length / 3, `${sent.length} of ${vectors.length}`);
  for (let i = 0; i < sent.length; i += 20) {
    await Promise.all(
      sent.slice(i, i + 20).map(async (vector) => {
        const { status, json, text, headers } = await program.ask('GET', '/protected', { bearer: forge(aimed(vector, own), good) });
        if ('accepted' in vector) return assert.equal(status, 200, `${vector.name}: ${text}`);
        assert.deepEqual([status, json.code], [401, vector.code], vector.name);
        assert.equal(json.msg, vector.code === 'token_expired' ? 'Token has expired' : 'Token is invalid', vector.name);
        assert.match(String(headers['www-authenticate']), /error="invalid_token"/);
        if (vector.reason !== undefined && vector.reason !== 'form')
          assert.doesNotMatch(text.toLowerCase(), new RegExp(`\\b${vector.reason}\\b`), `${vector.name} tells its reason`);
      }),
    );
  }

  const { status, json } = await program.ask('GET', '/protected', { bearer: access });
  assert.deepEqual([status, json], [200, { logged_in_as: 'testuser' }], 'and the real one still works');
});

/** What a header can carry, by a key that the program has or that nobody has, whatever the second. */
const canBeSent = (vector: Vector): boolean =>
  ['EdDSA', 'stranger'].includes(vector.key ?? 'EdDSA') && vector.clockMs === undefined && /^[\x21-\x7e]*$/.test(vector.text ?? '');

/** The names that look like the vectors' issuer shall look like the program's. */
function aimed(vector: Vector, { iss }: { iss: string }): Vector {
  const said = vector.claims?.['iss'];
  if (typeof said !== 'string') return vector;
  return { ...vector, claims: { ...vector.claims, iss: said.replace('https://issuer.example', iss) } };
}

async function signingKeyOf(program: Program): Promise<PrivateJwk> {
  const store = sqliteStore(join(program.folder, 'portcullis.db'));
  const [stored] = await store.keys.list();
  await store.close();
  assert.ok(stored);
  const jwk = openPrivateJwk(stored, readFileSync(join(program.folder, 'master-secret'), 'utf8').trim());
  assert.ok(jwk, 'the master secret opens the key');
  return { ...jwk, kty: 'OKP', kid: stored.kid, alg: stored.alg };
}
