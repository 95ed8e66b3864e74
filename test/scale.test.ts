import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { without } from './support/needs.ts';
import { isPostgresHere } from './support/postgres.ts';
import { isRedisHere } from './support/redis.ts';

const program = fileURLToPath(new URL('../bench/scale.ts', import.meta.url));
const skip = without('PostgreSQL', isPostgresHere) || without('Redis', isRedisHere);

test('what measures the slopes runs, and has a number for each of its sizes', { skip }, async () => {
  const { stdout } = await promisify(execFile)(process.execPath, [program, 'stores', 'memory', 'redis', 'telling', '--smallest', '--json']);
  const { slopes } = JSON.parse(stdout);
  assert.ok(slopes.length > 10);
  for (const { title, sizes, rows } of slopes) {
    assert.ok(rows.length > 0, title);
    for (const { name, values } of rows) {
      assert.equal(values.length, sizes.length, name);
      assert.ok(values.every(Number.isFinite), `${title}: ${name}`);
    }
  }
});
