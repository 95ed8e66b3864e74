import assert from 'node:assert/strict';
import { createHmac } from 'node:crypto';
import { test } from 'node:test';
import { csrfTokens } from '../src/domain/session/csrf-tokens.ts';
import { deriveKey } from '../src/lib/seal.ts';

test('a CSRF token is the HMAC of the session under a key of its own', () => {
  const token = csrfTokens(['a secret']).tokenFor('ses_1');
  assert.equal(token, createHmac('sha256', deriveKey('a secret', 'csrf')).update('ses_1').digest('base64url'));
  assert.match(token, /^[\w-]{43}$/);
});

test('it is good for its session alone, and to the letter', () => {
  const { tokenFor, matches } = csrfTokens(['a secret']);
  const token = tokenFor('ses_1');
  assert.ok(matches('ses_1', token));
  for (const [session, sent] of [
    ['ses_2', token],
    ['', token],
    ['ses_1', ''],
    ['ses_1', token.slice(0, -1)],
    ['ses_1', `${token}=`],
    ['ses_1', token.toUpperCase()],
    ['ses_1', 'é'.repeat(43)],
    ['ses_1', csrfTokens(['another secret']).tokenFor('ses_1')],
  ] as const)
    assert.ok(!matches(session, sent), sent);
});

test('it is made under the first secret, and still believed under the others', () => {
  const [old, now] = [csrfTokens(['old']), csrfTokens(['new', 'old'])];
  assert.equal(now.tokenFor('ses_1'), csrfTokens(['new']).tokenFor('ses_1'));
  for (const tokens of [old, now]) assert.ok(now.matches('ses_1', tokens.tokenFor('ses_1')));
  assert.ok(!now.matches('ses_1', csrfTokens(['older']).tokenFor('ses_1')));
  assert.ok(!old.matches('ses_1', now.tokenFor('ses_1')));
});
