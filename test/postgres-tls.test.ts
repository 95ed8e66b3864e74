import assert from 'node:assert/strict';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import { run as runHere } from '../packages/server/src/cli/run.ts';
import { without } from './support/needs.ts';
import { makeAuthority } from './support/pki.ts';
import { isPostgresHere, type Postgres, startPostgres } from './support/postgres.ts';
import { folderFor, shared } from './support/program.ts';

const PASSWORD = 'kept from every line';
const NO_PASSWORD = { PORTCULLIS_DATABASE_PASSWORD: undefined };

type Env = Readonly<Record<string, string | undefined>>;

describe('PostgreSQL under TLS', { skip: without('PostgreSQL', isPostgresHere) }, () => {
  const here = shared(async (t) => {
    const folder = folderFor(t);
    const [own, other] = [makeAuthority(join(folder, 'own'), 'authority'), makeAuthority(join(folder, 'other'), 'authority')];
    const extensions = 'extendedKeyUsage=serverAuth\nsubjectAltName=DNS:localhost';
    const start = async (days?: readonly [number, number]): Promise<Postgres> => {
      const server = await startPostgres('scram-sha-256', PASSWORD, own.issue('db', { extensions, ...(days && { days }) }));
      t.after(server.stop);
      return server;
    };
    const [server, expired] = [await start(), await start([-10, -1])];
    const database = new URL(await server.newDatabase()).pathname.slice(1);
    return { folder, server, expired, database, own: own.certFile, other: other.certFile };
  });

  /** In this process, which is quicker. */
  async function run(url: string, more: Env = {}) {
    const said = { stdout: '', stderr: '' };
    const to = (name: keyof typeof said) => ({ write: (text: string) => void (said[name] += text) });
    const env = { PORTCULLIS_DATA_DIR: here.folder, PORTCULLIS_DATABASE_URL: url, PORTCULLIS_DATABASE_PASSWORD: PASSWORD, ...more };
    const code = await runHere({ argv: ['migrate'], env, stdout: to('stdout'), stderr: to('stderr') });
    return { code, ...said };
  }
  const tcp = (more: string, host = 'localhost', port = here.server.port): string =>
    `postgres://portcullis@${host}:${port}/${here.database}${more}`;

  test('its authority named: it is asked under TLS, which is all that it takes', async () => {
    const { code, stderr } = await run(tcp(`?sslmode=verify-full&sslrootcert=${here.own}`));
    assert.equal(code, 0, stderr);
    const second = await run(tcp(`?sslrootcert=${here.own}`)); // an authority alone asks for TLS too
    assert.equal(second.code, 0, second.stderr);
  });

  test('whoever cannot show that it is the database is refused, by name, with what to do', async () => {
    const garbage = join(here.folder, 'garbage.pem');
    writeFileSync(garbage, 'no certificate');
    const refusals: [url: string, line: RegExp, more?: Env][] = [
      [tcp(`?sslmode=verify-full&sslrootcert=${here.other}`), /of an authority that is not trusted here: .*sslrootcert=FILE/],
      [tcp('?sslmode=verify-full'), /of an authority that is not trusted here: .*sslrootcert=FILE/],
      [
        tcp(`?sslmode=verify-full&sslrootcert=${here.own}`, '127.0.0.1'),
        /its certificate is not for "127\.0\.0\.1" .*as its certificate does/,
      ],
      [tcp(`?sslmode=verify-full&sslrootcert=${here.own}`, 'localhost', here.expired.port), /its certificate has expired/],
      [tcp('?sslmode=disable'), /it lets nobody in without TLS.*sslmode=verify-full/],
      [tcp(''), /it lets nobody in without TLS.*sslmode=verify-full/], // on this machine TLS is not asked for
      [tcp(`?sslrootcert=${here.folder}/none.pem`), /sslrootcert: .*none\.pem/],
      [tcp(`?sslrootcert=${garbage}`), /sslrootcert: .* is not a certificate as PEM/],
      [tcp(`?sslrootcert=${here.own}`), /the password is not right/, { PORTCULLIS_DATABASE_PASSWORD: 'another' }],
      [tcp(`?sslrootcert=${here.own}`), /it asks for a password: put it into PORTCULLIS_DATABASE_PASSWORD_FILE/, NO_PASSWORD],
    ];
    for (const [url, line, more] of refusals) {
      const { code, stdout, stderr } = await run(url, more);
      assert.deepEqual([code, stdout], [2, ''], stderr);
      assert.match(stderr, line);
      assert.doesNotMatch(stderr, new RegExp(PASSWORD));
      assert.equal(stderr.trimEnd().split('\n').length, 1, stderr);
    }
  });

  test('a server without TLS is not spoken to beyond this machine, unless its URL says so', async (t) => {
    const plain = await startPostgres();
    t.after(plain.stop);
    const database = new URL(await plain.newDatabase()).pathname.slice(1);
    const at = (more: string): string => `postgres://portcullis@localhost:${plain.port}/${database}${more}`;
    const refused = await run(at('?sslmode=verify-full'));
    assert.equal(refused.code, 2);
    assert.match(refused.stderr, /it has no TLS: switch ssl on there, or, .*sslmode=disable/);
    for (const more of ['', '?sslmode=disable']) assert.equal((await run(at(more))).code, 0);
  });

  test('by its unix socket, with the user before the @, as a word, or none in the URL', async () => {
    const { server, database } = here;
    const socket = encodeURIComponent(server.folder);
    for (const url of [
      `postgres:///${database}?host=${server.folder}&port=${server.port}&user=portcullis`,
      `postgres://portcullis@/${database}?host=${server.folder}&port=${server.port}`,
      `postgres://portcullis@${socket}:${server.port}/${database}`,
    ]) {
      const { code, stderr } = await run(url);
      assert.equal(code, 0, stderr);
    }
    const { stderr } = await run(`postgres:///${database}?host=${server.folder}&port=${server.port}`);
    assert.match(stderr, /the password is not right/, 'whoever runs this is no user of it');
  });
});
