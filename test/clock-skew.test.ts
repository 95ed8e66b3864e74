import assert from 'node:assert/strict';
import { test } from 'node:test';
import { clockSkew } from './faults/clock-skew.ts';
import { isFaketimeHere } from './support/faketime.ts';
import { without } from './support/needs.ts';
import { isPostgresHere } from './support/postgres.ts';
import { isRedisHere } from './support/redis.ts';

const skip = without('PostgreSQL, Redis or libfaketime', isPostgresHere && isRedisHere && isFaketimeHere);

// 30 s ahead, and so far behind that tokens would be of a future beyond the leeway if each went by its own clock.
for (const skewS of [30, -90])
  test(
    `two instances whose clocks are ${skewS} s apart: nothing is refused, nothing late, limits exact`,
    { skip, timeout: 60_000 },
    async (t) => {
      assert.deepEqual((await clockSkew(t, 6, skewS)).wrong, []);
    },
  );
