import assert from 'node:assert/strict';
import { once } from 'node:events';
import { mkdirSync, readFileSync, renameSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { get } from 'node:http';
import { connect } from 'node:http2';
import { Agent, get as getSecurely } from 'node:https';
import { createServer } from 'node:net';
import { describe, test } from 'node:test';
import tls from 'node:tls';
import { forServers, type Issued, makeAuthority } from './support/pki.ts';
import { type Ending, folderFor, type Program, shared, startProgram, until, wideLimits } from './support/program.ts';

const pki = shared((t) => {
  const folder = folderFor(t);
  const authority = makeAuthority(`${folder}/ca`, 'Renewal');
  const [first, second] = [
    authority.issue('localhost', { extensions: forServers }),
    authority.issue('localhost', { extensions: forServers }),
  ];
  return Promise.resolve({ authority, first, second });
});

type Served = { readonly program: Program; readonly certFile: string; readonly keyFile: string; readonly adminPort: number };

async function serveFirst(t: Ending, folder = folderFor(t)): Promise<Served> {
  const [certFile, keyFile] = [`${folder}/cert.pem`, `${folder}/key.pem`];
  writeFileSync(certFile, pki.first.cert);
  writeFileSync(keyFile, pki.first.key);
  const adminPort = await freePort();
  const settings = { ...wideLimits, TLS_CERT_FILE: certFile, TLS_KEY_FILE: keyFile, ADMIN_LISTEN: `127.0.0.1:${adminPort}` };
  return { program: await startProgram(t, { settings, ca: pki.authority.cert }), certFile, keyFile, adminPort };
}

async function freePort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as { port: number }; // a TCP server's
  await new Promise((done) => server.close(done));
  return port;
}

/** What a new connection is shown. */
async function serialOf({ port, ca }: Program): Promise<string> {
  const socket = tls.connect({ host: '127.0.0.1', servername: 'localhost', port, ca });
  await once(socket, 'secureConnect');
  const { serialNumber } = socket.getPeerCertificate();
  socket.destroy();
  return serialNumber;
}

async function detailOf({ adminPort }: Served): Promise<any> {
  const [answer] = await once(get({ host: '127.0.0.1', port: adminPort, path: '/readyz', agent: false }), 'response');
  return JSON.parse((await answer.toArray()).join(''));
}

const logOf = (program: Program): any[] =>
  program
    .output()
    .split('\n')
    .filter((line) => line.startsWith('{'))
    .map((line) => JSON.parse(line));

/** SIGHUP, and what it says that it did. */
async function reload(program: Program): Promise<string> {
  const done = () => logOf(program).filter(({ msg }) => msg === 'reloaded' || msg.startsWith('not all was reloaded'));
  const before = done().length;
  process.kill(program.pid, 'SIGHUP');
  await until(() => done().length > before);
  return done().at(-1).certificate;
}

test(
  'replaced under load: no request fails, no connection is dropped, and new ones get the new one by itself',
  { timeout: 60_000 },
  async (t) => {
    const { program, certFile, keyFile } = await serveFirst(t);
    const { port, ca } = program;
    const agent = new Agent({ keepAlive: true, maxSockets: 1 });
    const session = connect(`https://localhost:${port}`, { ca, host: '127.0.0.1' });
    t.after(() => {
      agent.destroy();
      session.destroy();
    });
    const sockets = new Set<unknown>();
    const statuses = { http1: new Map<unknown, number>(), http2: new Map<unknown, number>() };
    const count = (of: Map<unknown, number>, status: unknown): unknown => of.set(status, (of.get(status) ?? 0) + 1);
    const end = new AbortController();
    const http1 = async () => {
      while (!end.signal.aborted) {
        const sent = getSecurely({ host: '127.0.0.1', servername: 'localhost', port, path: '/healthz', ca, agent });
        sent.on('socket', (socket) => sockets.add(socket));
        const [answer] = await once(sent, 'response');
        await answer.toArray();
        count(statuses.http1, answer.statusCode);
      }
    };
    const http2 = async () => {
      while (!end.signal.aborted) {
        const stream = session.request({ ':path': '/healthz' });
        const [headers] = await once(stream, 'response');
        await stream.toArray();
        count(statuses.http2, headers[':status']);
      }
    };
    const load = [http1(), http2(), http2()];

    assert.equal(await serialOf(program), pki.first.serial);
    writeFileSync(certFile, pki.second.cert);
    await until(() => (statuses.http1.get(200) ?? 0) > 50);
    writeFileSync(keyFile, pki.second.key);
    await until(async () => (await serialOf(program)) === pki.second.serial);
    const before = statuses.http2.get(200) ?? 0;
    await until(() => (statuses.http2.get(200) ?? 0) > before + 50);
    end.abort();
    await Promise.all(load);

    assert.deepEqual([[...statuses.http1.keys()], [...statuses.http2.keys()]], [[200], [200]]);
    assert.equal(sockets.size, 1, 'one connection all the while');
    const taken = logOf(program).filter(({ msg }) => msg === 'certificate taken up');
    assert.deepEqual(
      taken.map(({ level, names, serial }) => ({ level, names, serial })),
      [{ level: 'info', names: ['localhost', '127.0.0.1'], serial: pki.second.serial }],
    );
  },
);

describe('what is unusable on the disk', () => {
  test('is said once, shown to operators, and not taken up; what is mended is', { timeout: 60_000 }, async (t) => {
    const served = await serveFirst(t);
    const { program, certFile, keyFile } = served;
    const put = ({ cert, key }: Pick<Issued, 'cert' | 'key'>): void => {
      writeFileSync(certFile, cert);
      writeFileSync(keyFile, key);
    };
    const { first, second } = pki;
    const other = second.key;
    for (const [what, act, why] of [
      ['garbage', () => writeFileSync(certFile, 'x'.repeat(10_000)), /not a certificate as PEM/],
      ['the key of another', () => writeFileSync(keyFile, other), /does not belong/],
      ['half written', () => writeFileSync(certFile, second.cert.slice(0, 300)), /not a certificate as PEM/],
      ['a chain cut off', () => writeFileSync(certFile, first.cert + second.cert.slice(0, 300)), /TLS cannot use it/],
      ['vanished', () => rmSync(keyFile), /no such file/],
      ['a folder', () => (rmSync(certFile), mkdirSync(certFile)), /a folder/],
      ['expired', () => put(pki.authority.issue('localhost', { extensions: forServers, days: [-20, -10] })), /expired at/],
      ['not yet valid', () => put(pki.authority.issue('localhost', { extensions: forServers, days: [10, 20] })), /not valid before/],
    ] as const) {
      const errors = () => logOf(program).filter(({ level }) => level === 'error');
      const before = errors().length;
      act();
      assert.equal(await reload(program), 'unusable', what);
      assert.equal(await reload(program), 'unusable', what);
      assert.equal(errors().length, before + 1, `${what}: once`);
      assert.match(errors().at(-1).why.join(), why, what);
      assert.match((await detailOf(served)).certificate.unusable.join(), why, what);
      assert.equal(await serialOf(program), first.serial, what);
      rmSync(certFile, { recursive: true });
      put(first);
      assert.equal(await reload(program), 'unchanged', what);
      assert.deepEqual((await detailOf(served)).certificate.unusable, [], what);
    }
    assert.doesNotMatch(program.output(), /BEGIN|PRIVATE/);
    put(second);
    assert.equal(await reload(program), 'taken up');
    const { serial, names, notAfter, expiresInS } = (await detailOf(served)).certificate;
    assert.deepEqual([serial, names], [second.serial, ['localhost', '127.0.0.1']]);
    assert.ok(Math.abs(Date.parse(notAfter) - Date.now() - expiresInS * 1_000) < 60_000);
    assert.equal(await program.stop(), 0);
  });

  test('links that are swapped, as Kubernetes does it, are followed by themselves', { timeout: 60_000 }, async (t) => {
    const folder = folderFor(t);
    for (const [name, { cert, key }] of [
      ['..1', pki.first],
      ['..2', pki.second],
    ] as const) {
      mkdirSync(`${folder}/${name}`);
      writeFileSync(`${folder}/${name}/tls.crt`, cert);
      writeFileSync(`${folder}/${name}/tls.key`, key);
    }
    symlinkSync('..1', `${folder}/..data`);
    for (const file of ['tls.crt', 'tls.key']) symlinkSync(`..data/${file}`, `${folder}/${file}`);
    const settings = { TLS_CERT_FILE: `${folder}/tls.crt`, TLS_KEY_FILE: `${folder}/tls.key` };
    const program = await startProgram(t, { settings, ca: pki.authority.cert });
    assert.equal(await serialOf(program), pki.first.serial);
    symlinkSync('..2', `${folder}/..data_tmp`);
    renameSync(`${folder}/..data_tmp`, `${folder}/..data`);
    await until(async () => (await serialOf(program)) === pki.second.serial);
  });
});

test('an expired certificate, and one for another host, are said and do not keep it from starting', async (t) => {
  const folder = folderFor(t);
  const expired = pki.authority.issue('localhost', {
    extensions: 'extendedKeyUsage=serverAuth\nsubjectAltName=DNS:elsewhere.example',
    days: [-20, -10],
  });
  const settings = { TLS_CERT_FILE: expired.certFile, TLS_KEY_FILE: expired.keyFile };
  const program = await startProgram(t, { folder, settings, ca: pki.authority.cert });
  await until(() => program.output().includes('has expired'));
  assert.match(program.output(), /The certificate is not for localhost, the host of PORTCULLIS_ISSUER, but for elsewhere\.example\./);
  assert.deepEqual(
    logOf(program).map(({ level, msg, serial }) => [level, msg, serial]),
    [['error', 'the certificate has expired', expired.serial]],
  );
  assert.equal(readFileSync(`${folder}/security.log`, 'utf8').includes('expired'), false);
});
