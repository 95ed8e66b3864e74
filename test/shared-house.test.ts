import assert from 'node:assert/strict';
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import { setTimeout as wait } from 'node:timers/promises';
import { run as runHere } from '../packages/server/src/cli/run.ts';
import { without } from './support/needs.ts';
import { isPostgresHere, startPostgres } from './support/postgres.ts';
import { folderFor, logIn, type Program, runCommand, shared, startProgram, until, wideLimits } from './support/program.ts';
import { certificate } from './wire/support.ts';

const alice = { username: 'alice', password: 'a long sentence is a good password' };
const HOUR = 3_600_000;

describe('one house, several instances', { skip: without('PostgreSQL', isPostgresHere) }, () => {
  const here = shared(async (t) => {
    const postgres = await startPostgres();
    t.after(postgres.stop);
    const folder = folderFor(t);
    const [key, cert] = [join(folder, 'key.pem'), join(folder, 'cert.pem')];
    writeFileSync(key, certificate.key);
    writeFileSync(cert, certificate.cert);
    const settings = {
      ...wideLimits,
      DATABASE_URL: await postgres.newDatabase(),
      ISSUER: 'https://localhost',
      MASTER_SECRET: 'q3ZkT0v9yX7uB1nLw5cRj8sHd2fGm6aE4pKi',
      TLS_KEY_FILE: key,
      TLS_CERT_FILE: cert,
      REFRESH_GRACE: '1 s',
    };
    const env = Object.fromEntries(Object.entries({ ...settings, DATA_DIR: folder }).map(([name, value]) => [`PORTCULLIS_${name}`, value]));
    const added = await runCommand(['users', 'add', 'alice', '--password-stdin'], { env, input: alice.password });
    assert.equal(added.code, 0, added.stderr);
    const query = async (text: string) => (await postgres.query(text, new URL(settings.DATABASE_URL).pathname.slice(1))).rows;
    return { folder, settings, env, query };
  });

  const KEEPS = 'this instance keeps house';
  const keepers = (all: readonly Program[]): Program[] => all.filter((one) => one.output().includes(KEEPS));

  test('one keeps house; when it dies another does, and where that one ends, the next', { timeout: 60_000 }, async (t) => {
    const { folder, settings, query } = here;
    const start = (name: string): Promise<Program> => {
      mkdirSync(join(folder, name));
      return startProgram(t, { command: 'serve', folder: join(folder, name), settings, ca: certificate.cert });
    };
    const [one, other] = await Promise.all([start('one'), start('other')]);
    await wait(2_500); // each has looked again
    assert.equal(keepers([one, other]).length, 1);
    const [first, second] = keepers([one, other])[0] === one ? [one, other] : [other, one];
    await first.stop('SIGKILL');
    const { refresh } = await logIn(second, alice);
    assert.equal((await second.ask('POST', '/refresh', { bearer: refresh })).status, 200);
    const sealed = async (): Promise<unknown> =>
      (await query('select count(*)::int as seals from sessions where successor_seal is not null'))[0]?.seals;
    assert.equal(await sealed(), 1);
    await until(() => keepers([second]).length === 1);
    await until(async () => (await sealed()) === 0);
    const third = await start('third');
    assert.equal(keepers([third]).length, 0);
    assert.equal(await second.stop(), 0);
    assert.deepEqual(await query('select * from leases'), [], 'who ends gives it back');
    await until(() => keepers([third]).length === 1);
  });

  test("what an operator writes has the database's time, however wrong his machine's is", async (t) => {
    const real = Date.now.bind(Date);
    for (const offBy of [-HOUR, HOUR]) {
      t.mock.method(Date, 'now', () => real() + offBy);
      const said = { stdout: '', stderr: '' };
      const to = (name: keyof typeof said) => ({ write: (text: string) => void (said[name] += text) });
      const code = await runHere({
        argv: ['users', 'disable', 'alice', '--json'],
        env: here.env,
        stdout: to('stdout'),
        stderr: to('stderr'),
      });
      assert.equal(code, 0, said.stderr);
      assert.match(said.stderr, /the database's clock and this machine's are apart/);
      const [{ disabled_at: at, entry }] = (await here.query(
        "select disabled_at, (select max(at) from audit where action = 'user_disabled') as entry from users",
      )) as [{ disabled_at: string; entry: string }];
      for (const written of [at, entry]) assert.ok(Math.abs(Number(written) - real()) < 60_000, `${offBy}: ${written}`);
      await here.query('update users set disabled_at = null');
    }
  });
});
