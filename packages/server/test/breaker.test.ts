import assert from 'node:assert/strict';
import { test } from 'node:test';
import { breaker } from '../src/lib/breaker.ts';

test('after three failures in a row one may try every half second, and the first answer lets all try again', () => {
  let at = 0;
  const way = breaker({ failures: 3, retryMs: 500, now: () => at });
  way.failed();
  way.failed();
  way.answered();
  for (let i = 0; i < 3; i++) {
    assert.equal(way.mayTry(), true, 'not in a row');
    way.failed();
  }
  assert.equal(way.mayTry(), false);
  at = 499;
  assert.equal(way.mayTry(), false);
  at = 500;
  assert.deepEqual([way.mayTry(), way.mayTry(), way.mayTry()], [true, false, false]);
  way.failed();
  at = 999;
  assert.equal(way.mayTry(), false);
  at = 1_000;
  assert.equal(way.mayTry(), true);
  way.answered();
  assert.deepEqual([way.mayTry(), way.mayTry()], [true, true]);
  way.failed();
  assert.equal(way.mayTry(), true, 'it is counted anew');
});
