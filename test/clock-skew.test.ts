import assert from 'node:assert/strict';
import { test } from 'node:test';
import { clockSkew, isFaketimeHere } from './faults/clock-skew.ts';
import { without } from './support/needs.ts';
import { isPostgresHere } from './support/postgres.ts';
import { isRedisHere } from './support/redis.ts';

const skip = without('PostgreSQL, Redis or faketime', isPostgresHere && isRedisHere && isFaketimeHere);

// 30 s ahead, and so far behind that tokens would be of a future beyond the leeway if each went by its own clock.
for (const skewS of [30, -90])
  test(
    `two instances whose clocks are ${skewS} s apart: nothing is refused, nothing late, limits exact`,
    { skip, timeout: 60_000 },
    async () => {
      const { apartMs, iatOffS, ...found } = await clockSkew({ skewS, rounds: 6 });
      assert.ok(Math.abs(apartMs - skewS * 1_000) < 2_000, `they are ${apartMs} ms apart`);
      assert.ok(iatOffS < 5, `a token's time is ${iatOffS} s off`);
      assert.deepEqual(found, { rounds: 6, refused: 0, late: 0, admitted: 20 });
    },
  );
