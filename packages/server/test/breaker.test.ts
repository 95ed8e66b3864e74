import assert from 'node:assert/strict';
import { test } from 'node:test';
import { breaker } from '../src/lib/breaker.ts';
import { until } from '../../../test/support/program.ts';

test('after three failures in a row nobody may wait, but one who tries until there is an answer', async (t) => {
  let isThere = false;
  let tries = 0;
  const way = breaker({
    failures: 3,
    retryMs: 1,
    async tryIt() {
      tries += 1;
      await Promise.resolve();
      if (!isThere) throw new Error('silence');
    },
  });
  t.after(way.close);
  way.failed();
  way.failed();
  way.answered();
  for (let i = 0; i < 3; i++) {
    assert.equal(way.isOpen(), false, 'not in a row');
    way.failed();
  }
  assert.equal(way.isOpen(), true);
  await until(() => tries > 3);
  assert.equal(way.isOpen(), true);
  isThere = true;
  await until(() => !way.isOpen());
  const before = tries;
  way.failed();
  assert.equal(way.isOpen(), false, 'it is counted anew');
  await new Promise((next) => setTimeout(next, 20));
  assert.equal(tries, before);
});
