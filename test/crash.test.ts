import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { suite, test } from 'node:test';
import { killServer } from './faults/kill-server.ts';
import { demoUser, folderFor, runCommand, startProgram, wideLimits } from './support/program.ts';
import { without } from './support/needs.ts';
import { isPostgresHere } from './support/postgres.ts';

/** A port is drawn anew at each start; the issuer must not change with it. */
const settings = { ...wideLimits, SESSIONS_PER_USER: '10000', ISSUER: 'https://localhost' };

suite('kill -9', () => {
  for (const [kind, how, rounds] of [
    ['SQLite with a grace', { store: 'sqlite', grace: '5 minutes' }, 6],
    ['SQLite, strict', { store: 'sqlite', grace: '0' }, 3],
    ['PostgreSQL', { store: 'postgres', grace: '5 minutes' }, 2],
  ] as const) {
    const skip = how.store === 'postgres' && without('PostgreSQL', isPostgresHere);
    test(`in mid-load, ${rounds} times on one store, ${kind}: what was answered holds`, { timeout: 60_000, skip }, async (t) => {
      const { wrong, figures } = await killServer(t, rounds, how);
      assert.deepEqual(wrong, []);
      assert.ok((figures.sessions ?? 0) > rounds, `only ${figures.sessions} sessions`);
    });
  }

  test('a second server on the same folder ends with 2 and a reason, and changes nothing; kill -9 frees the folder', async (t) => {
    const folder = folderFor(t);
    const program = await startProgram(t, { folder, settings });
    const { json } = await program.ask('POST', '/login', { json: demoUser });
    const before = contents(folder);
    const second = await runCommand(['dev'], {
      env: { PORTCULLIS_DATA_DIR: folder, PORTCULLIS_PORT: '0', PORTCULLIS_ADMIN_LISTEN: 'none' },
    });
    assert.equal(second.code, 2);
    assert.match(second.stderr, /another server has the store/);
    assert.equal(second.stderr.trim().split('\n').length, 1);
    assert.deepEqual(contents(folder), before);
    assert.equal((await program.ask('GET', '/protected', { bearer: json.access_token })).status, 200);

    await program.stop('SIGKILL');
    const third = await startProgram(t, { folder, settings });
    assert.equal((await third.ask('GET', '/protected', { bearer: json.access_token })).status, 200);
  });
});

/** What is shared memory of the moment is left out, and the log, in which the server writes when it likes. */
const contents = (folder: string): Record<string, string> =>
  Object.fromEntries(
    readdirSync(folder)
      .filter((name) => !name.endsWith('-shm') && name !== 'security.log')
      .map((name) => [
        name,
        createHash('sha256')
          .update(readFileSync(join(folder, name)))
          .digest('hex'),
      ]),
  );
