import assert from 'node:assert/strict';
import { suite, test } from 'node:test';
import { cutAnswers } from './faults/cut-answers.ts';
import { killRedis } from './faults/kill-redis.ts';
import { loseRedis } from './faults/lose-redis.ts';
import { revokeElsewhere } from './faults/revoke-elsewhere.ts';
import { slowRedis } from './faults/slow-redis.ts';
import { without } from './support/needs.ts';
import { isPostgresHere } from './support/postgres.ts';
import { isRedisHere } from './support/redis.ts';

// A few rounds of what `npm run faults` makes at length, and outcomes alone: how long it took is judged there.

suite('two instances and their Redis', { skip: without('PostgreSQL', isPostgresHere) || without('Redis', isRedisHere) }, () => {
  test('killed under load: what was answered holds, who has logged out is out, limits stay limits', async (t) => {
    assert.deepEqual((await killRedis(t, 2)).wrong, []);
  });

  test('flushed, and replaced by an empty replica: who has logged out is out', async (t) => {
    assert.deepEqual((await loseRedis(t, 2)).wrong, []);
  });

  test('slow, stalled, stopped, cut off one way or the other: never open, never a 500', async (t) => {
    const ways = ['200 ms', '2 s', 'stalled', 'SIGSTOP', 'nothing gets there', 'nothing comes back'] as const;
    assert.deepEqual((await slowRedis(t, 60, ways)).wrong, []);
  });

  test('answers cut in their middle: none is taken for another', async (t) => {
    assert.deepEqual((await cutAnswers(t, 500)).wrong, []);
  });

  test('a session that ends on one, with requests in flight on the other: none that begins afterwards is let in', async (t) => {
    assert.deepEqual((await revokeElsewhere(t, 20)).wrong, []);
  });
});
