import assert from 'node:assert/strict';
import { existsSync } from 'node:fs';
import { test } from 'node:test';
import { rollingRestart } from './faults/rolling-restart.ts';
import { without } from './support/needs.ts';
import { isPostgresHere } from './support/postgres.ts';
import { isRedisHere } from './support/redis.ts';

const skip = without('PostgreSQL, Redis or HAProxy', isPostgresHere && isRedisHere && existsSync('/usr/sbin/haproxy'));

test(
  'two instances restarted one after the other behind HAProxy, with a new key in between: no request fails',
  { skip, timeout: 120_000 },
  async () => {
    const { requests, failures, byProcess, tokensByKey } = await rollingRestart({ requests: 3_000 });
    assert.deepEqual(failures, []);
    assert.ok(requests >= 3_000);
    assert.ok(
      byProcess.every((answered) => answered > 0),
      `each had a part: ${byProcess}`,
    );
    assert.equal(tokensByKey.length, 2, 'tokens of both keys');
  },
);
