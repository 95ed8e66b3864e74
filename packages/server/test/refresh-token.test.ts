import assert from 'node:assert/strict';
import { test } from 'node:test';
import { crc32 } from 'node:zlib';
import fc from 'fast-check';
import { refreshTokens } from '../src/domain/token/refresh-token.ts';
import { newId } from '../src/lib/id.ts';
import { sha256 } from '../src/lib/seal.ts';

const ours = refreshTokens(['the master secret of this server']);
const sessionId = newId('session');
const first = ours.first(sessionId);

function readOwn(text: string) {
  const token = ours.read(text);
  assert.ok(token, 'a token of ours');
  return token;
}

test('a token is 101 characters that a scanner of leaked secrets knows by sight', () => {
  const form = /^prt_([A-Za-z0-9_-]{91})([0-9A-Za-z]{6})$/.exec(first.text);
  assert.ok(form);
  const [, body = '', checksum = ''] = form;
  const digits = '0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz';
  assert.equal(
    [...checksum].reduce((sum, digit) => sum * 62 + digits.indexOf(digit), 0),
    crc32(body),
  );
});

test('it is read back: its session, its generation, the hash that the store keeps', () => {
  const token = readOwn(first.text);
  assert.deepEqual([token.sessionId, token.generation, token.hash], [sessionId, 0, first.hash]);
  assert.equal(token.hash, sha256(first.text));
  assert.equal(token.secret.length, 32);

  const second = readOwn(ours.next(token).text);
  assert.deepEqual([second.sessionId, second.generation], [sessionId, 1]);
  assert.equal(readOwn(ours.next(second).text).generation, 2);
});

test('no token repeats, neither of one session nor of many, nor as the successor of one token', () => {
  const token = readOwn(first.text);
  const texts = Array.from({ length: 2_000 }, (_, i) => (i % 2 ? ours.first(sessionId).text : ours.next(token).text));
  assert.equal(new Set(texts).size, texts.length);
  assert.equal(new Set(texts.map((text) => Buffer.from(readOwn(text).secret).toString('hex'))).size, texts.length, 'nor does its secret');
});

test('any change of one character is no token of ours', () => {
  const at = fc.nat({ max: first.text.length });
  const character = fc.oneof(
    fc.constantFrom(...'ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_'),
    fc.string({ minLength: 1, maxLength: 1 }),
  );
  const change = fc
    .oneof(
      fc.tuple(at, character).map(([i, by]) => first.text.slice(0, i) + by + first.text.slice(i)),
      fc.tuple(at, character).map(([i, by]) => first.text.slice(0, i) + by + first.text.slice(i + 1)),
      at.map((i) => first.text.slice(0, i) + first.text.slice(i + 1)),
    )
    .filter((changed) => changed !== first.text);
  fc.assert(
    fc.property(change, (changed) => assert.equal(ours.read(changed), undefined)),
    { numRuns: 2_000 },
  );
});

test('any text is no token of ours, at once', () => {
  fc.assert(
    fc.property(
      fc.oneof(
        fc.string(),
        fc.base64String().map((text) => `prt_${text}`),
        fc.stringMatching(/^prt_[\w-]{97}$/),
      ),
      (text) => assert.equal(ours.read(text), undefined),
    ),
  );
  for (const text of ['', 'prt_', ` ${first.text}`, `${first.text}\n`, first.text.toUpperCase(), `prt_${'A'.repeat(1_000_000)}`])
    assert.equal(ours.read(text), undefined);
});

test('a token that was changed with care, its checksum made good again, fails by its MAC', () => {
  const body = Buffer.from(first.text.slice(4, -6), 'base64url');
  assert.ok(ours.read(textOf(body)), 'this is how a text is made of bytes');
  const parts = { 'the session': 0, 'the generation': 19, 'the random bits': 20, 'the MAC': 67 };
  for (const [what, at] of Object.entries(parts)) {
    const changed = Buffer.from(body);
    changed.writeUInt8(changed.readUInt8(at) ^ 1, at);
    assert.equal(ours.read(textOf(changed)), undefined, what);
  }
  const letters = 'ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_';
  const respelled = first.text.slice(4, -7) + letters[letters.indexOf(first.text.at(-7) ?? '') + 1];
  assert.deepEqual(Buffer.from(respelled, 'base64url'), body);
  assert.equal(ours.read(withChecksum(respelled)), undefined, 'another spelling of the same bytes');
  const other = Buffer.from(ours.first(newId('session')).text.slice(4, -6), 'base64url');
  assert.equal(ours.read(textOf(Buffer.concat([other.subarray(0, 16), body.subarray(16)]))), undefined, 'the session of another token');
  assert.equal(ours.read(textOf(Buffer.concat([body.subarray(0, 52), other.subarray(52)]))), undefined, 'the MAC of another token');
});

test('under another master secret it is not ours; under the same one it is, also after a restart', () => {
  assert.equal(refreshTokens(['the master secret of another server']).read(first.text), undefined);
  assert.deepEqual(refreshTokens(['the master secret of this server']).read(first.text), ours.read(first.text));
});

test('while the secret is changed both are read, and the first one writes', () => {
  const [before, now] = ['the master secret of this server', 'the master secret that comes next'];
  const changing = refreshTokens([now, before]);
  assert.deepEqual(changing.read(first.text), ours.read(first.text));
  const next = changing.next(readOwn(first.text));
  assert.equal(ours.read(next.text), undefined);
  assert.equal(refreshTokens([now]).read(next.text)?.generation, 1);
  assert.equal(refreshTokens([before, now]).read(next.text)?.hash, next.hash, 'the other way round');
  assert.equal(ours.unseal(readOwn(first.text), next.seal), next.text, 'a seal knows no master secret');
});

test('a successor opens for who holds the token before it, and for nobody else', () => {
  const token = readOwn(first.text);
  const { text, seal } = ours.next(token);
  assert.equal(ours.unseal(token, seal), text);
  assert.equal(ours.unseal(readOwn(first.text), seal), text, 'presented again');
  assert.ok(!seal.includes(text.slice(4, 40)));

  assert.equal(ours.unseal(readOwn(text), seal), undefined, 'the successor itself');
  assert.equal(ours.unseal(readOwn(ours.first(sessionId).text), seal), undefined, 'another token of the same session');
  assert.equal(ours.unseal({ ...token, sessionId: newId('session') }, seal), undefined, 'another session');
  assert.equal(ours.unseal(token, ours.next(readOwn(ours.first(sessionId).text)).seal), undefined, 'another seal');
});

/** Bytes as a token, with the checksum that anyone can make. */
const textOf = (bytes: Buffer): string => withChecksum(bytes.toString('base64url'));

function withChecksum(body: string): string {
  const digits = '0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz';
  let checksum = '';
  for (let rest = crc32(body), i = 0; i < 6; i += 1, rest = Math.floor(rest / 62)) checksum = digits.charAt(rest % 62) + checksum;
  return `prt_${body}${checksum}`;
}
