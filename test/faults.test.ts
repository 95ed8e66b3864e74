import assert from 'node:assert/strict';
import { suite, test } from 'node:test';
import { clockMoves } from './faults/clock.ts';
import { diskFull, whyNoDisk } from './faults/disk-full.ts';
import { idleConnections } from './faults/idle-connections.ts';
import { lockout } from './faults/lockout.ts';
import { loginFlood } from './faults/login-flood.ts';
import { restartPostgres } from './faults/restart-postgres.ts';
import { isFaketimeHere } from './support/faketime.ts';
import { without } from './support/needs.ts';
import { isPostgresHere } from './support/postgres.ts';

// A few rounds of what `npm run faults` makes at length, and outcomes alone: how long it took is judged there.

const noPostgres = without('PostgreSQL', isPostgresHere);

test('PostgreSQL halted at once, and kill -9, under load: what was answered holds, the rest was 503', { skip: noPostgres }, async (t) => {
  const { wrong, figures } = await restartPostgres(t, 2);
  assert.deepEqual(wrong, []);
  assert.ok((figures['503'] ?? 0) > 0, 'it was away under load');
});

test(
  'a disk that is full: 503, nothing is answered that is not on record, and it is well again by itself',
  { skip: !process.env.CI && whyNoDisk() },
  async (t) => {
    assert.deepEqual((await diskFull(t, 1)).wrong, []);
  },
);

suite('a clock that is set back and forward, and stands still', { concurrency: true, skip: without('libfaketime', isFaketimeHere) }, () => {
  for (const [store, skip] of [
    ['sqlite', false],
    ['postgres', noPostgres],
  ] as const)
    test(`on ${store}: no token lives longer, no limit refuses for longer`, { skip }, async (t) => {
      assert.deepEqual((await clockMoves(t, 1, store)).wrong, []);
    });
});

test('idle connections up to the bound: newcomers take the place of those that were idle longest', async (t) => {
  assert.deepEqual((await idleConnections(t, 200)).wrong, []);
});

test('two hundred logins at once: as many wait as may, the rest is told to come again, and a token is looked at all the while', async (t) => {
  const { wrong, figures } = await loginFlood(t, 1);
  assert.deepEqual(wrong, []);
  assert.ok((figures.logins ?? 0) > 0 && (figures['told to come again'] ?? 0) > 0);
});

test('a locked name stays locked over kill -9 and a restart, on PostgreSQL', { skip: noPostgres }, async (t) => {
  assert.deepEqual((await lockout(t, 1, 'postgres')).wrong, []);
});
