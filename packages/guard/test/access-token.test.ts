import assert from 'node:assert/strict';
import { test } from 'node:test';
import { setImmediate as nextTurn } from 'node:timers/promises';
import fc from 'fast-check';
import { CompactSign, type CryptoKey, generateKeyPair } from 'jose';
import { type AccessTokens, accessTokens, type Caller, manualClock, Problem, type VerificationKey } from '../src/index.ts';

// The forgeries one by one are in test/vectors; here is what holds for every token.

const issuer = 'https://issuer.example';
const pair = await generateKeyPair('EdDSA');
const curve = await generateKeyPair('ES256');
const verification = (kid: string, { publicKey }: { publicKey: CryptoKey }, alg: VerificationKey['alg'] = 'EdDSA'): VerificationKey => ({
  kid,
  alg,
  key: publicKey,
});

function setUp({ remembered }: { remembered?: number } = {}) {
  const clock = manualClock();
  const keys = new Map([
    ['k1', verification('k1', pair)],
    ['p256', verification('p256', curve, 'ES256')],
  ]);
  const tokens = accessTokens({
    issuer,
    audience: 'notes',
    keys: { find: (kid) => keys.get(kid) },
    clock,
    ...(remembered !== undefined && { remembered }),
    mark: (token) => `mark of ${token}`,
  });
  const mint = (
    claims: Record<string, unknown> = {},
    { kid = 'k1', alg = 'EdDSA', key = pair.privateKey }: { kid?: string; alg?: string; key?: CryptoKey } = {},
  ): Promise<string> => {
    const nowS = clock.now() / 1_000;
    const good = {
      iss: issuer,
      aud: 'notes',
      sub: 'usr_1',
      client_id: 'web',
      sid: 'ses_1',
      jti: 'tok_1',
      iat: nowS,
      exp: nowS + 900,
      username: 'ada',
      auth_time: nowS,
    };
    return new CompactSign(Buffer.from(JSON.stringify({ ...good, ...claims }))).setProtectedHeader({ alg, typ: 'at+jwt', kid }).sign(key);
  };
  return { clock, keys, tokens, mint };
}

async function refusal(tokens: AccessTokens, token: string): Promise<{ code: string; reason: string | undefined }> {
  try {
    await tokens.read(token);
  } catch (error) {
    assert.ok(error instanceof Problem, `not a Problem: ${String(error)}`);
    return { code: error.code, reason: error.reason };
  }
  assert.fail('it was accepted');
}

/** Read with no signature being checked: only a remembered token can be. One that was not is, from now on. */
async function isRemembered(tokens: ReturnType<typeof setUp>['tokens'], token: string): Promise<boolean> {
  const before = tokens.counts.verified;
  await tokens.read(token);
  return tokens.counts.verified === before;
}

test('a token is verified once and then remembered, by its whole text', async () => {
  const { tokens, mint } = setUp();
  const token = await mint();
  const caller = await tokens.read(token);
  assert.equal(tokens.read(token), caller);
  assert.deepEqual(await refusal(tokens, `${token.slice(0, -2)}${token.at(-2) === 'A' ? 'B' : 'A'}${token.at(-1)}`), {
    code: 'token_invalid',
    reason: 'signature',
  });
});

test('a remembered token expires to the millisecond', async () => {
  const { tokens, mint, clock } = setUp();
  const token = await mint();
  await tokens.read(token);
  clock.advance(899_999);
  assert.ok(await isRemembered(tokens, token));
  clock.advance(1);
  assert.deepEqual(await refusal(tokens, token), { code: 'token_expired', reason: undefined });
});

test('a remembered token ends with its key', async () => {
  const { tokens, mint, keys } = setUp();
  const token = await mint();
  await tokens.read(token);
  keys.delete('k1');
  assert.deepEqual(await refusal(tokens, token), { code: 'token_invalid', reason: 'key gone' });

  keys.set('k1', verification('k1', await generateKeyPair('EdDSA')));
  assert.deepEqual(await refusal(tokens, token), { code: 'token_invalid', reason: 'key gone' }, 'another key by the same name');
});

test('a token of a key that is compromised is refused as such, remembered or waiting for its turn', async () => {
  const { tokens, mint, keys } = setUp();
  const [seen, ...unseen] = await Promise.all(Array.from({ length: 50 }, (_, i) => mint({ jti: `tok_${i}` })));
  assert.ok(seen !== undefined);
  await tokens.read(seen);
  const reading = unseen.map((token) => tokens.read(token));
  const waiting = reading.filter((read) => read instanceof Promise);
  const refused = Promise.allSettled(waiting);
  keys.set('k1', { kid: 'k1', alg: 'EdDSA', key: 'compromised' });
  const gone = { code: 'token_key_gone', reason: 'compromised' };
  assert.ok(waiting.length > 30, `${waiting.length} wait`);
  for (const read of await refused) {
    assert.ok(read.status === 'rejected' && read.reason instanceof Problem);
    assert.deepEqual({ code: read.reason.code, reason: read.reason.reason }, gone);
  }
  assert.equal(tokens.counts.verified, 50 - waiting.length, 'and no signature was looked at for it');
  assert.deepEqual(await refusal(tokens, seen), gone);
  assert.deepEqual(await refusal(tokens, await mint({ exp: 1 })), gone, 'whatever it says');
  assert.deepEqual(await refusal(tokens, `${seen.split('.', 2).join('.')}.AAAA`), gone, 'whatever its signature');
});

test('a flood of unknown tokens leaves known ones at hand, and is answered in the order in which it came', async () => {
  const { tokens, mint } = setUp();
  const known = await mint();
  const caller = await tokens.read(known);
  const flood = await Promise.all(Array.from({ length: 100 }, (_, i) => mint({ jti: `tok_${i}` })));
  const answered: number[] = [];
  const reading = flood.map(async (token, i) => {
    await tokens.read(token);
    answered.push(i);
  });
  let turns = 0;
  while (answered.length < flood.length) {
    const before = tokens.counts.verified;
    assert.equal(tokens.read(known), caller, 'without waiting');
    await nextTurn();
    assert.ok(tokens.counts.verified - before <= 8);
    turns += 1;
  }
  await Promise.all(reading);
  assert.ok(turns >= 10, `${turns} turns`);
  assert.deepEqual(answered, [...flood.keys()]);
});

test('a key that is published but does not sign yet verifies, one that is gone does not', async () => {
  const { tokens, mint, keys } = setUp();
  const next = await generateKeyPair('EdDSA');
  const token = await mint({}, { kid: 'k2', key: next.privateKey });
  assert.deepEqual(await refusal(tokens, token), { code: 'token_invalid', reason: 'unknown key' });
  keys.set('k2', verification('k2', next));
  assert.equal((await tokens.read(token)).userId, 'usr_1');
});

test('tokens that share all but their signature are told apart', async () => {
  const { tokens, mint } = setUp();
  const [one, two] = await Promise.all([1, 2].map(() => mint({}, { kid: 'p256', alg: 'ES256', key: curve.privateKey })));
  assert.ok(one && two && one !== two && one.slice(0, -86) === two.slice(0, -86));
  await tokens.read(one);
  assert.ok(await isRemembered(tokens, one));
  assert.deepEqual(await refusal(tokens, `${one.slice(0, -86)}${two.slice(-86, -43)}${one.slice(-43)}`), {
    code: 'token_invalid',
    reason: 'signature',
  });
  assert.ok(!(await isRemembered(tokens, two)), 'the second was never seen');
});

test('nothing that was refused is remembered', async () => {
  const { tokens, mint, clock } = setUp();
  const expired = await mint({ exp: clock.now() / 1_000 - 1 });
  for (const token of [expired, `${expired}A`, 'a.b.c']) {
    const first = await refusal(tokens, token);
    assert.deepEqual(await refusal(tokens, token), first);
  }
});

test('a flood of good tokens is held in bounds, and the one in use stays at hand', async () => {
  const { tokens, mint } = setUp({ remembered: 10 });
  const used = await mint();
  const flood = await Promise.all(Array.from({ length: 100 }, (_, i) => mint({ jti: `tok_${i}` })));
  await tokens.read(used);
  for (const token of flood) {
    await tokens.read(token);
    assert.ok(await isRemembered(tokens, used));
  }
  assert.ok(await isRemembered(tokens, flood.at(-1) ?? ''));
  const held = [];
  for (const token of flood.slice(0, -1)) if (await isRemembered(tokens, token)) held.push(token); // asking, itself, pushes others out
  assert.ok(held.length <= 10, `${held.length} are held`);
});

test('any change of one character is refused as invalid, also where the token itself is remembered', async () => {
  const { tokens, mint } = setUp();
  const token = await mint();
  await tokens.read(token);
  const position = fc.nat({ max: token.length });
  const character = fc.oneof(
    fc.constantFrom(...'ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_'),
    fc.constantFrom(...'.=+/ \n\0é'),
    fc.string({ minLength: 1, maxLength: 1 }),
  );
  const change = fc
    .oneof(
      fc.tuple(position, character).map(([at, by]) => token.slice(0, at) + by + token.slice(at)),
      position.map((at) => token.slice(0, at) + token.slice(at + 1)),
      fc.tuple(position, character).map(([at, by]) => token.slice(0, at) + by + token.slice(at + 1)),
      position.map((at) => token.slice(0, at) + flipCase(token.charAt(at)) + token.slice(at + 1)),
    )
    .filter((changed) => changed !== token);

  await fc.assert(
    fc.asyncProperty(change, async (changed) => {
      assert.equal((await refusal(tokens, changed)).code, 'token_invalid');
    }),
    { numRuns: 1_500 },
  );
  assert.ok(await isRemembered(tokens, token));
});

test('whatever text comes, the answer is a Problem', async () => {
  const { tokens } = setUp();
  const part = fc.oneof(
    fc.base64String(),
    fc.json().map((text) => Buffer.from(text).toString('base64url')),
    fc.string(),
  );
  const text = fc.oneof(
    fc.string({ unit: 'binary' }),
    fc.tuple(part, part, part).map((parts) => parts.join('.')),
    fc.constantFrom('', '.', '..', '...').map((dots) => dots.repeat(2_000)),
  );
  await fc.assert(
    fc.asyncProperty(text, async (token) => {
      assert.equal((await refusal(tokens, token)).code, 'token_invalid');
    }),
    { numRuns: 1_000 },
  );
});

test('whatever is signed, the answer is a caller whose every member has its type, or a Problem', async () => {
  const { tokens, mint, clock } = setUp();
  const name = fc.constantFrom(
    'iss',
    'aud',
    'sub',
    'client_id',
    'sid',
    'jti',
    'iat',
    'nbf',
    'exp',
    'scope',
    'username',
    'auth_time',
    '__proto__',
    'toString',
  );
  await fc.assert(
    fc.asyncProperty(fc.dictionary(name, fc.oneof(fc.jsonValue(), fc.constant('ses_2'), fc.double())), async (claims) => {
      let caller: Caller;
      try {
        caller = await tokens.read(await mint(claims));
      } catch (error) {
        return assert.ok(error instanceof Problem && /^token_(invalid|expired)$/.test(error.code), String(error));
      }
      const { userId, username, sessionId, tokenId, clientId, scopes, authenticatedAt, expiresAt } = caller;
      for (const text of [userId, username, sessionId, tokenId, clientId, ...scopes]) assert.equal(typeof text, 'string');
      for (const text of [userId, username, sessionId, tokenId, clientId]) assert.notEqual(text, '');
      assert.ok(Number.isFinite(authenticatedAt) && expiresAt > clock.now());
    }),
    { numRuns: 500 },
  );
});

test("judge says what read throws, of whatever text; two refusals have nothing of their tokens, and what is thrown is the catcher's own", async () => {
  const { tokens, mint, keys, clock } = setUp();
  const thrown = (token: string): Promise<unknown> =>
    Promise.try(() => tokens.read(token)).then(
      (caller) => caller,
      (error: unknown) => error,
    );
  keys.set('gone', { ...verification('gone', pair), key: 'compromised' });
  const used = await mint();
  await tokens.read(used);
  const nowS = clock.now() / 1_000;
  const [header = '', claims = '', signature = ''] = used.split('.');
  const b64 = (value: unknown): string => Buffer.from(JSON.stringify(value)).toString('base64url');
  const forged = (odd: object): string => `${b64({ alg: 'EdDSA', typ: 'at+jwt', kid: 'k1', ...odd })}.${claims}.${signature}`;
  const texts = [
    '',
    '.',
    '..',
    '...',
    'x',
    'x.y',
    'a.b.c',
    'e30.e30.e30',
    `${header}.${claims}`,
    `${used}.`,
    `.${used}`,
    `${used}\n`,
  ].concat(
    [` ${used}`, 'x'.repeat(10_000), `${header}=.${claims}.${signature}`, `${header}.${claims}.`, `${header}..${signature}`],
    [b64(null), b64([]), b64('x'), b64(1), 'eyJ'].map((odd) => `${odd}.${claims}.${signature}`),
    [{ crit: [] }, { jwk: {} }, { kid: 1 }, { typ: 'JWT' }, { alg: 'none' }, { alg: 'HS256' }, { kid: 'nobody' }].map(forged),
    await Promise.all([mint({ exp: nowS }), mint({ sub: '' }), mint({ iss: 'x' }), mint({}, { kid: 'gone' }), mint()]),
    [`${header}.${claims}.${signature.slice(0, -3)}AAA`, used],
  );
  for (const text of texts) {
    const judged = await tokens.judge(text);
    const read = await thrown(text);
    assert.deepEqual(read, judged, text);
    if (!(judged instanceof Problem && read instanceof Problem)) continue;
    assert.ok(Object.isFrozen(judged) && Object.isFrozen(judged.extra));
    assert.notEqual(read, judged);
    assert.notEqual(await thrown(text), read, 'each catches one of his own');
    assert.ok(text.length < 3 || !`${judged.message} ${judged.stack}`.includes(text));
  }
  await fc.assert(
    fc.asyncProperty(fc.string({ unit: 'binary' }), async (text) => assert.ok((await tokens.judge(text)) instanceof Problem)),
  );
});

test('the form is good only of three parts, each of them the one spelling of its bytes', async () => {
  const { tokens, mint } = setUp();
  const [ours = ''] = (await mint()).split('.');
  const isSpelling = (part: string): boolean => part !== '' && Buffer.from(part, 'base64url').toString('base64url') === part;
  const letters = [...'AQgwBEIMcko048_-'.repeat(4), '.', '=', '+', '/', '\n', 'é', '\u0000'];
  const part = fc.string({ unit: fc.constantFrom(...letters), maxLength: 9 });
  const header = fc.oneof(part, fc.constant(ours));
  await fc.assert(
    fc.asyncProperty(header, fc.array(part, { minLength: 1, maxLength: 3 }), async (first, others) => {
      const text = [first, ...others].join('.');
      const parts = text.split('.');
      const judged = await tokens.judge(text);
      assert.ok(judged instanceof Problem);
      // What comes after a header that no key of ours has is not looked at.
      const looked = parts[0] === ours ? parts : parts.slice(0, 1);
      assert.equal(judged.reason === 'form', parts.length !== 3 || !looked.every(isSpelling), JSON.stringify(text));
    }),
    { numRuns: 5_000 },
  );
});

const flipCase = (letter: string): string => (letter === letter.toLowerCase() ? letter.toUpperCase() : letter.toLowerCase());

test('one that was minted here is at hand without its signature being looked at, and refused like any other', async () => {
  const { tokens, mint, clock, keys } = setUp();
  const token = await mint();
  tokens.remember(token);
  assert.ok(await isRemembered(tokens, token));
  assert.deepEqual(tokens.counts, { verified: 0, known: 1 });
  keys.set('k1', { ...verification('k1', pair), key: 'compromised' });
  assert.equal((await refusal(tokens, token)).code, 'token_key_gone');
  keys.set('k1', verification('k1', pair)); // another object: the key was read anew
  assert.equal((await refusal(tokens, token)).reason, 'key gone');
  const second = await mint();
  tokens.remember(second);
  clock.advance(899_999);
  assert.ok(await isRemembered(tokens, second));
  clock.advance(1);
  assert.equal((await refusal(tokens, second)).code, 'token_expired');
});

test('what could not be read is not remembered, whoever says so', async () => {
  const { tokens, mint, keys, clock } = setUp();
  keys.set('gone', { ...verification('gone', pair), key: 'compromised' });
  const nowS = clock.now() / 1_000;
  const bad = [
    'x',
    'a.b.c',
    await mint({ iss: 'https://other.example' }),
    await mint({ aud: 'other' }),
    await mint({ exp: nowS }),
    await mint({ nbf: nowS + 61 }),
    await mint({ sub: '' }),
    await mint({}, { kid: 'unknown' }),
    await mint({}, { kid: 'gone' }),
    await mint({}, { kid: 'p256' }),
  ];
  for (const token of bad) {
    tokens.remember(token);
    assert.equal(tokens.unseen(token), undefined, token);
    await refusal(tokens, token);
  }
  assert.deepEqual(tokens.counts, { verified: 0, known: 0 });
});

test('what an unseen token says of itself, and its mark; nothing where it was seen or nobody makes marks', async () => {
  const { tokens, mint, clock } = setUp();
  const token = await mint();
  const forged = token.slice(0, -10) + 'A'.repeat(10);
  const [said, ofForged] = [tokens.unseen(token), tokens.unseen(forged)];
  assert.equal(said?.mark, `mark of ${token}`);
  assert.equal(said?.caller.userId, 'usr_1');
  assert.notEqual(ofForged?.mark, said?.mark, 'the signature is part of the mark');
  assert.equal((await refusal(tokens, forged)).reason, 'signature');
  assert.deepEqual(await tokens.read(token), said?.caller, 'it says the same once it is verified');
  assert.equal(tokens.unseen(token), undefined);
  const markless = accessTokens({ issuer, audience: 'notes', keys: { find: () => verification('k1', pair) }, clock });
  assert.equal(markless.unseen(token), undefined);
});

test('what is remembered by its mark is refused all the same once its key or its time is gone', async () => {
  const { tokens, mint, clock, keys } = setUp();
  const token = await mint();
  const said = tokens.unseen(token);
  keys.set('k1', { kid: 'k1', alg: 'EdDSA', key: 'compromised' });
  said?.remember();
  assert.deepEqual(await refusal(tokens, token), { code: 'token_key_gone', reason: 'compromised' });
  assert.equal(tokens.counts.known, 1);
  keys.set('k1', verification('k1', pair));
  const next = await mint({ jti: 'tok_2' });
  const late = tokens.unseen(next);
  clock.advance(900_000);
  late?.remember();
  assert.equal((await refusal(tokens, next)).code, 'token_expired');
});
