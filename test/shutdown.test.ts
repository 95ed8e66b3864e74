import assert from 'node:assert/strict';
import { test } from 'node:test';
import { terminate } from './faults/terminate.ts';

test('SIGTERM under load: no request is cut, over HTTP/1.1 and HTTP/2, and it ends with 0', { timeout: 60_000 }, async (t) => {
  assert.deepEqual((await terminate(t, 2)).wrong, []);
});
