import assert from 'node:assert/strict';
import { test } from 'node:test';
import { cookie, cookieValues, findCookie } from '../src/cookie.ts';

test('a cookie is found by its whole name', () => {
  for (const [header, found] of [
    ['', []],
    ['__Host-a=1', ['1']],
    ['x=2; __Host-a=1; y=3', ['1']],
    ['x=2;__Host-a=1;', ['1']],
    ['__Host-a=', ['']],
    ['__Host-a=b=c', ['b=c']],
    ['__Host-ab=1', []],
    ['x__Host-a=1', []],
    ['\u00a0__Host-a=1', []],
    ['x=2; \u00a0__Host-a=1', []],
    ['x=2;\t __Host-a=1', ['1']],
    ['__host-a=1', []],
    ['x="__Host-a=1"', []],
    ['__Host-a', []],
    ['__Host-a=1; __Host-a=1', ['1', '1']],
    ['__Host-a=1; x=2; __Host-a=3', ['1', '3']],
  ] as const)
    assert.deepEqual(cookieValues(header, '__Host-a'), found, header);
});

test('no header, no cookie', () => {
  assert.deepEqual(cookieValues(undefined, '__Host-a'), []);
});

test('of two cookies of one name none counts, be they the same', () => {
  assert.equal(findCookie('x=2; __Host-a=1', '__Host-a'), '1');
  assert.equal(findCookie('x=2', '__Host-a'), undefined);
  for (const header of ['__Host-a=1; __Host-a=1', '__Host-a=1;__Host-a='])
    assert.throws(() => findCookie(header, '__Host-a'), { code: 'cookie_duplicated' });
});

test('what is set is for this host, over HTTPS, and for no script', () => {
  assert.equal(
    cookie('__Host-a', 'v', { maxAgeS: 900, sameSite: 'Strict' }),
    '__Host-a=v; Path=/; Max-Age=900; Secure; HttpOnly; SameSite=Strict',
  );
});
