import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { findBearer } from '../src/index.ts';

test('the header is read to the letter, its kind of token told before anything else', () => {
  const answers: [header: string | undefined, access: string, refresh: string][] = [
    [undefined, 'token_missing', 'token_missing'],
    ['', 'token_missing', 'token_missing'],
    ['Basic dGVzdA==', 'authorization_scheme', 'authorization_scheme'],
    ['a.b.c', 'authorization_scheme', 'authorization_scheme'],
    ['Bearers a.b.c', 'authorization_scheme', 'authorization_scheme'],
    ['Bearer\ta.b.c', 'authorization_scheme', 'authorization_scheme'],
    ['Bearer,a.b.c', 'authorization_scheme', 'authorization_scheme'],
    ['Bearer', 'authorization_malformed', 'authorization_malformed'],
    ['Bearer ', 'authorization_malformed', 'authorization_malformed'],
    ['Bearer  a.b.c', 'a.b.c', 'refresh_token_required'],
    ['Bearer a.b.c ', 'authorization_malformed', 'authorization_malformed'],
    ['Bearer a.b.c d.e.f', 'authorization_malformed', 'authorization_malformed'],
    ['Bearer a.b.c, Bearer d.e.f', 'authorization_malformed', 'authorization_malformed'],
    [' Bearer a.b.c', 'authorization_scheme', 'authorization_scheme'],
    ['Bearer a.b.c', 'a.b.c', 'refresh_token_required'],
    ['bEARER a.b.c', 'a.b.c', 'refresh_token_required'],
    ['Bearer prt_abc', 'access_token_required', 'prt_abc'],
    ['Bearer prt_a.b.c', 'access_token_required', 'prt_a.b.c'],
    ['Bearer PRT_abc', 'PRT_abc', 'token_invalid'],
    ['Bearer something', 'something', 'token_invalid'],
    ['Bearer a.b.c.d', 'a.b.c.d', 'token_invalid'],
  ];
  for (const [header, access, refresh] of answers) {
    assert.deepEqual(Object.values(findBearer(header, 'access')), [access], `${header}, access due`);
    assert.deepEqual(Object.values(findBearer(header, 'refresh')), [refresh], `${header}, refresh due`);
  }
});

test('of any header, a token that is found holds no blank, and is of one kind', () => {
  const header = fc.oneof(
    fc.string(),
    fc.array(fc.constantFrom('Bearer', 'bearer', ' ', 'prt_', 'a.b.c', ',', '\t')).map((parts) => parts.join('')),
  );
  fc.assert(
    fc.property(header, (text) => {
      const access = findBearer(text, 'access');
      const refresh = findBearer(text, 'refresh');
      assert.ok('problem' in access || 'problem' in refresh, 'no text is both');
      for (const found of [access, refresh]) if ('token' in found) assert.doesNotMatch(found.token, / |^$/);
    }),
  );
});
