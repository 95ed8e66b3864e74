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
  async (t) => {
    const { wrong, figures } = await rollingRestart(t, 3_000);
    assert.deepEqual(wrong, []);
    assert.ok((figures.requests ?? 0) >= 3_000);
  },
);
