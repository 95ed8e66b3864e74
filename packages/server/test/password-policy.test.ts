import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { passwordPolicy } from '../src/domain/credential/password-policy.ts';
import { commonPasswords } from '../src/lib/common-passwords.ts';

const common = commonPasswords();
const policy = passwordPolicy({ minLength: 15, blocked: common });
const short = passwordPolicy({ minLength: 8, blocked: common });
const user = { username: 'testuser' };

test('length is counted in code points, from 15 to 256 of them', () => {
  assert.equal(policy.check('fourteen chars', user), 'password_too_short');
  assert.equal(policy.check('fifteen chars !', user), undefined);
  assert.equal(policy.check('🐎🔋📎🧷🪝🧵🪢🧶🪡🧺🪣🧽🫧🧴', user), 'password_too_short', '14 code points in 28 units');
  assert.equal(policy.check('🐎🔋📎🧷🪝🧵🪢🧶🪡🧺🪣🧽🫧🧴🧹', user), undefined);
  const long = Array.from({ length: 257 }, (_, at) => String.fromCodePoint(0x1f300 + at));
  assert.equal(policy.check(long.slice(0, 256).join(''), user), undefined);
  assert.equal(policy.check(long.join(''), user), 'password_too_long');
  assert.equal(policy.check('', user), 'password_too_short');
});

test('no kind of character is demanded and none is forbidden', () => {
  for (const odd of [
    'onlylowercaseletters',
    '  spaces  around them  ',
    'tabs\tand\nlines\0nul',
    '384619204857361',
    'пароль из одних слов',
    '密码可以是任何语言的一句话而且很长',
  ]) {
    assert.equal(policy.check(odd, user), undefined, JSON.stringify(odd));
  }
});

test('a common password is refused in any case and in full width', () => {
  for (const known of [
    '1qaz2wsx3edc4rfv',
    '1QAZ2wsx3EDC4rfv',
    'zqjphsyf6CTIFGU',
    'qwerty123456789',
    'QWERTY123456789',
    'ｑｗｅｒｔｙ１２３４５６７８９',
  ]) {
    assert.equal(policy.check(known, user), 'password_common', known);
  }
  assert.equal(short.check('password123', user), 'password_common');
  assert.equal(policy.check('1qaz2wsx3edc4rfv is not all of it', user), undefined);
});

test('a short unit repeated is refused, also when the last turn is cut short; a long phrase said twice is not', () => {
  for (const repeated of [
    'aaaaaaaaaaaaaaa',
    '123123123123123',
    '1231231231231231',
    'passwordpassword',
    'PasswordPASSWORDpass',
    'Ab1!Ab1!Ab1!Ab1!',
    '🐎🔋🐎🔋🐎🔋🐎🔋🐎🔋🐎🔋🐎🔋🐎',
  ]) {
    assert.equal(policy.check(repeated, user), 'password_common', repeated);
  }
  assert.equal(short.check('sunshinesunshine', user), 'password_common', 'the unit is long enough but common');
  assert.equal(policy.check('a horse, a battery a horse, a battery ', user), undefined);
  assert.equal(policy.check('abcdefghijklmno abc', user), undefined);
  assert.equal(policy.check('abcabcabcabcabc.!', user), undefined);
});

test('the name of the user or of the product may not stand in it', () => {
  assert.equal(policy.check('my name is TestUser ok', user), 'password_has_context');
  assert.equal(policy.check('behind the Portcullis gate', user), 'password_has_context');
  assert.equal(policy.check('my name is testusher ok', user), undefined);
  assert.equal(policy.check('hello rene\u0301 in the garden', { username: 'René' }), 'password_has_context', 'composed or not');
  assert.equal(policy.check('the bobsleigh is fast', { username: 'bob' }), undefined, 'three letters turn up by chance');
});

test('the list is in the form that it is compared in', () => {
  assert.equal(common().size, 49_233);
  for (const word of common()) if (word !== word.normalize('NFKC').toLowerCase()) assert.fail(word);
  assert.equal(common(), common(), 'read once');
});

test('the list is not asked for while another rule already refuses', () => {
  const unread = passwordPolicy({ minLength: 15, blocked: () => assert.fail('read') });
  for (const bad of ['short', 'x'.repeat(257), 'x'.repeat(15), 'portcullis and more']) assert.notEqual(unread.check(bad, user), undefined);
});

test('whatever a short unit is, repeating it makes no password', () => {
  const unit = fc.string({ unit: 'grapheme-ascii', minLength: 1, maxLength: 14 });
  fc.assert(
    fc.property(unit, fc.integer({ min: 15, max: 120 }), (text, length) => {
      const password = text.repeat(length).slice(0, Math.max(length, text.length * 2));
      assert.notEqual(policy.check(password, user), undefined);
    }),
    { numRuns: 200 },
  );
});
