import assert from 'node:assert/strict';
import { test } from 'node:test';
import { isRequestId, newRequestId } from '../src/id.ts';

test('ids of requests are random UUIDs, also past those that were made at once', () => {
  const ids = Array.from({ length: 10_000 }, newRequestId);
  assert.equal(new Set(ids).size, ids.length);
  for (const id of ids) assert.match(id, /^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/);
  assert.ok(ids.every(isRequestId));
  // Of 10,000 random digits at one place, each comes up 625 times; fewer than 400 would be ten deviations off.
  for (let at = 0; at < 36; at += 1) {
    if ([8, 13, 14, 18, 19, 23].includes(at)) continue; // dashes, version, variant
    const counts = Map.groupBy(ids, (id) => id[at]);
    assert.equal(counts.size, 16, `place ${at}`);
    for (const [digit, some] of counts) assert.ok(some.length > 400 && some.length < 850, `place ${at}, digit ${digit}: ${some.length}`);
  }
});
