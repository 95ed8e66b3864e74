import assert from 'node:assert/strict';
import { execFile, execFileSync } from 'node:child_process';
import { X509Certificate } from 'node:crypto';
import { once } from 'node:events';
import { readFileSync, writeFileSync } from 'node:fs';
import http2 from 'node:http2';
import https from 'node:https';
import net from 'node:net';
import { describe, test } from 'node:test';
import tls from 'node:tls';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { manualClock } from '@portcullis/guard';
import { start } from '../packages/server/src/start.ts';
import { certificate as wireCertificate, closeClients, get, openTls, start as startWire } from './wire/support.ts';
import { type Authority, forServers, type Issued, makeAuthority } from './support/pki.ts';
import { type Ending, folderFor, type Program, shared, startProgram, until, wideLimits } from './support/program.ts';

const root = fileURLToPath(new URL('..', import.meta.url));
const page = readFileSync(`${root}docs/how-to/client-certificates.md`, 'utf8');
const blocksOf = (language: string): string[] =>
  [...page.matchAll(new RegExp(`\`\`\`${language}\n([\\s\\S]*?)\`\`\``, 'g'))].map(([, block = '']) => block);

type Version = 'TLSv1.2' | 'TLSv1.3';
const versions = ['TLSv1.2', 'TLSv1.3'] as const;
/** All that came of an attempt: the status of the answer, or 0 where none was given. */
type Try = { readonly status: number; readonly body: string };
type Client = Pick<Issued, 'cert' | 'key'>;

/** The program of the how-to, whose `GET /who` says what it is told of the client. */
async function startAsking(t: Ending, settings: Record<string, string>): Promise<Program> {
  const folder = folderFor(t);
  const index = (name: string) => new URL(`../packages/${name}/src/index.ts`, import.meta.url).href;
  const entry = `${folder}/who.ts`;
  const [own = ''] = blocksOf('ts');
  writeFileSync(
    entry,
    (own + endsWell)
      .replace('@portcullis/guard', index('guard'))
      .replace("'portcullis'", `'${index('server')}'`)
      .replace('({ names: clientCertificate?.names ?? [] })', '({ client: clientCertificate ?? null, again: clientCertificate ?? null })'),
  );
  return startProgram(t, { folder, entry, settings: { ...wideLimits, ...settings } });
}

function overHttp1({ port, ca }: Program, client: Client | undefined, version: Version): Promise<Try> {
  return new Promise((resolve) => {
    const where = {
      host: '127.0.0.1',
      servername: 'localhost',
      port,
      path: '/who',
      ca,
      agent: false,
      minVersion: version,
      maxVersion: version,
    };
    https
      .get({ ...where, ...client, headers: { host: 'localhost' } }, (answer) => {
        let body = '';
        answer
          .setEncoding('utf8')
          .on('data', (text: string) => {
            body += text;
          })
          .on('error', () => resolve({ status: 0, body }))
          .on('end', () => resolve({ status: answer.statusCode ?? 0, body }));
      })
      .on('error', () => resolve({ status: 0, body: '' }));
  });
}

function overHttp2({ port, ca }: Program, client: Client | undefined, version: Version): Promise<Try> {
  const session = http2.connect(`https://localhost:${port}`, {
    ca,
    host: '127.0.0.1',
    minVersion: version,
    maxVersion: version,
    ...client,
  });
  const got = { status: 0, body: '' };
  const stream = session.on('error', () => {}).request({ ':path': '/who' });
  stream
    .on('response', (headers) => {
      got.status = headers[':status'] ?? 0;
    })
    .setEncoding('utf8')
    .on('data', (text: string) => {
      got.body += text;
    })
    .on('error', () => {});
  return new Promise((resolve) => {
    stream.once('close', () => {
      session.destroy();
      resolve(got);
    });
  });
}

/** The how-to's program leaves the signals to the reader. */
const endsWell = `
process.once('SIGTERM', () => void running.stop());
process.on('SIGHUP', () => void running.reload());
`;

const protocols = [
  ['HTTP/1.1', overHttp1],
  ['HTTP/2', overHttp2],
] as const;

type Pki = {
  readonly clients: Authority;
  readonly others: Authority;
  readonly good: Issued;
  readonly bad: readonly (readonly [reason: string, client: Client])[];
};

function makePki(t: Ending): Pki {
  const folder = folderFor(t);
  const [clients, others] = [makeAuthority(`${folder}/clients`, 'Clients'), makeAuthority(`${folder}/others`, 'Clients')];
  const good = clients.issue('good', {
    extensions: 'extendedKeyUsage=clientAuth\nsubjectAltName=URI:spiffe://example.org/good,DNS:good.internal',
  });
  const selfSigned = others.certFile; // its own issuer, by the name of the one that is trusted
  return {
    clients,
    others,
    good,
    bad: [
      ['untrusted', others.issue('good')],
      ['untrusted', { cert: readFileSync(selfSigned, 'utf8'), key: others.key }],
      ['expired', clients.issue('old', { days: [-20, -10] })],
      ['not yet valid', clients.issue('young', { days: [10, 20] })],
      ['not for clients', clients.issue('server', { extensions: forServers })],
      ['not for clients', clients.issue('anything', { extensions: 'subjectAltName=DNS:any.internal' })],
    ],
  };
}

const linesOf = (program: Program): any[] =>
  readFileSync(`${program.folder}/security.log`, 'utf8')
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line));
const refusalsOf = (program: Program): any[] => linesOf(program).filter(({ code }) => code === 'client_certificate_refused');

describe('client certificates', () => {
  const pki = shared((t) => Promise.resolve(makePki(t)));
  const asking = (t: Ending, auth: string) => startAsking(t, { TLS_CLIENT_AUTH: auth, TLS_CLIENT_CA_FILE: pki.clients.certFile });

  for (const auth of ['required', 'optional'] as const) {
    test(`${auth}: who comes in, over both protocols and both versions`, { timeout: 30_000 }, async (t) => {
      const program = await asking(t, auth);
      for (const [protocol, ask] of protocols) {
        for (const version of versions) {
          const what = `${protocol} ${version}`;
          const known = await ask(program, pki.good, version);
          assert.equal(known.status, 200, what);
          const { client, again } = JSON.parse(known.body);
          assert.deepEqual(client, {
            subject: 'CN=good',
            names: ['URI:spiffe://example.org/good', 'DNS:good.internal'],
            fingerprint256: fingerprintOf(pki.good),
            serial: pki.good.serial,
          });
          assert.deepEqual(again, client);
          assert.deepEqual(
            await ask(program, undefined, version),
            auth === 'optional' ? { status: 200, body: '{"client":null,"again":null}' } : { status: 0, body: '' },
            `${what}, none sent`,
          );
          for (const [reason, client] of pki.bad)
            assert.deepEqual(await ask(program, client, version), { status: 0, body: '' }, `${what}, ${reason}`);
        }
      }
      await program.stop();
      const [first, ...sums] = refusalsOf(program);
      assert.deepEqual(
        [first.status, first.reason, first.address, first.act],
        [0, auth === 'required' ? 'none sent' : 'untrusted', '127.0.0.1', 'refused'],
      );
      const refused = 4 * (pki.bad.length + (auth === 'required' ? 1 : 0));
      assert.equal(1 + sums.reduce((sum, { count }) => sum + count, 0), refused, 'each of them is counted');
      assert.doesNotMatch(JSON.stringify(linesOf(program)) + program.output(), /CERTIFICATE-----|"level":"(error|fatal)"/);
    });
  }

  test('the log says what was wrong, from a fixed list', { timeout: 30_000 }, async (t) => {
    const program = await asking(t, 'required');
    const weak = pki.clients.issue('weak', { newKey: ['-newkey', 'rsa:1024', '-nodes'] });
    const all = [['none sent', undefined], ...pki.bad, ['unusable', weak]] as const;
    for (const [i, [, client]] of all.entries()) {
      const where = { host: '127.0.0.1', port: program.port, ca: program.ca, servername: 'localhost', localAddress: `127.0.0.${10 + i}` };
      const ciphers = 'DEFAULT@SECLEVEL=0'; // else the weak one would not even be sent
      const socket = tls.connect({ ...where, ciphers, ...(client && { cert: client.cert, key: client.key }) });
      await new Promise((resolve) =>
        socket
          .on('error', () => {})
          .resume()
          .once('close', resolve),
      );
    }
    await program.stop();
    assert.deepEqual(
      refusalsOf(program).map(({ reason, address }) => [reason, address]),
      all.map(([reason], i) => [reason, `127.0.0.${10 + i}`]),
    );
  });

  test('a certificate with names alone has an empty subject, and one with strange names keeps them apart', async (t) => {
    const program = await asking(t, 'required');
    const strange = pki.clients.issue('', {
      extensions: 'extendedKeyUsage=clientAuth\nsubjectAltName=@names\n[names]\nURI.1=spiffe://a\\,DNS:admin.internal\nDNS.1=b.internal',
    });
    const { client } = JSON.parse((await overHttp1(program, strange, 'TLSv1.3')).body);
    assert.deepEqual([client.subject, client.names.at(-1), client.names.length], ['', 'DNS:b.internal', 2]);
    assert.match(client.names[0], /^URI:"/);
  });

  test('no ticket stands in for a certificate', { timeout: 30_000 }, async (t) => {
    const program = await asking(t, 'optional');
    for (const version of versions) {
      for (const client of [undefined, pki.good]) {
        const open = (session?: Buffer) =>
          tls.connect({
            host: '127.0.0.1',
            port: program.port,
            ca: program.ca,
            servername: 'localhost',
            minVersion: version,
            maxVersion: version,
            ...client,
            ...(session && { session }),
          });
        const first = open().on('error', () => {});
        let ticket: Buffer | undefined;
        first.on('session', (session) => {
          ticket = session;
        });
        first.end('GET /who HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n').resume();
        await new Promise((resolve) => first.once('close', resolve));
        const second = open(ticket ?? first.getSession());
        await once(second, 'secureConnect');
        assert.equal(second.isSessionReused(), false, version);
        second.destroy();
      }
    }
    // openssl, where each ticket of a connection without a certificate is tried with none and with another.
    const file = `${program.folder}/ticket`;
    for (const version of ['-tls1_2', '-tls1_3']) {
      const say = (...more: string[]) =>
        promisify(execFile)('sh', [
          '-c',
          `(printf 'GET /who HTTP/1.1\\r\\nHost: localhost\\r\\nConnection: close\\r\\n\\r\\n'; sleep 0.3) | openssl s_client -connect 127.0.0.1:${program.port} -quiet -no_ign_eof ${version} ${more.join(' ')} 2>&1`,
        ]);
      assert.match((await say('-sess_out', file)).stdout, /"client":null/);
      const again = await promisify(execFile)('sh', [
        '-c',
        `openssl s_client -connect 127.0.0.1:${program.port} ${version} -sess_in ${file} </dev/null 2>&1`,
      ]);
      assert.match(again.stdout, /^New, TLS/m);
    }
  });

  test('a handshake that is held until the authority has been changed is let go, and not let in', { timeout: 30_000 }, async (t) => {
    const file = `${folderFor(t)}/clients-ca.pem`;
    writeFileSync(file, pki.clients.cert);
    const program = await startAsking(t, { TLS_CLIENT_AUTH: 'required', TLS_CLIENT_CA_FILE: file });
    const released = Promise.withResolvers<void>();
    const heard = Promise.withResolvers<void>();
    const relay = net.createServer((client) => {
      const server = net.connect(program.port, '127.0.0.1');
      server.once('data', () => heard.resolve());
      server.pipe(client);
      client.once('data', (hello) => {
        server.write(hello);
        client.pause();
        void released.promise.then(() => client.pipe(server));
      });
      for (const end of [client, server]) end.on('error', () => {});
    });
    relay.listen(0, '127.0.0.1');
    await once(relay, 'listening');
    t.after(() => relay.close());

    const { port } = relay.address() as net.AddressInfo; // it listens on TCP
    const held = tls.connect({ host: '127.0.0.1', port, servername: 'localhost', ca: program.ca, cert: pki.good.cert, key: pki.good.key });
    let answered = '';
    held.on('data', (bytes: Buffer) => {
      answered += bytes.toString('latin1');
    });
    held.on('error', () => {});
    held.write('GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n');
    await heard.promise; // the server has said what it asks for, by the authority of before

    writeFileSync(file, pki.others.cert);
    process.kill(program.pid, 'SIGHUP');
    await until(() => program.output().includes('"certificate":"taken up","msg":"reloaded"'));
    released.resolve();
    await once(held, 'close');
    assert.equal(answered, '');
    assert.equal((await overHttp1(program, pki.others.issue('newcomer'), 'TLSv1.3')).status, 200);
  });

  test(
    'another authority on the disk: its clients come in, those of the old one are let go, also from open connections',
    { timeout: 60_000 },
    async (t) => {
      const folder = folderFor(t);
      const file = `${folder}/clients-ca.pem`;
      writeFileSync(file, pki.clients.cert);
      const program = await startAsking(t, { TLS_CLIENT_AUTH: 'required', TLS_CLIENT_CA_FILE: file });
      const newcomer = pki.others.issue('newcomer');
      assert.equal((await overHttp1(program, newcomer, 'TLSv1.3')).status, 0);

      const agent = new https.Agent({ keepAlive: true, maxSockets: 1 });
      t.after(() => agent.destroy());
      const ask = async () => {
        const sent = https.get({
          host: '127.0.0.1',
          servername: 'localhost',
          port: program.port,
          path: '/who',
          ca: program.ca,
          agent,
          cert: pki.good.cert,
          key: pki.good.key,
        });
        const [answer] = await once(sent, 'response');
        await answer.toArray();
        return `${answer.statusCode} ${answer.headers.connection}`;
      };
      const session = http2.connect(`https://localhost:${program.port}`, {
        ca: program.ca,
        host: '127.0.0.1',
        cert: pki.good.cert,
        key: pki.good.key,
      });
      t.after(() => session.destroy());
      const told = once(
        session.on('error', () => {}),
        'goaway',
      );
      await once(session, 'connect');
      assert.equal(await ask(), '200 keep-alive');

      writeFileSync(file, pki.others.cert);
      process.kill(program.pid, 'SIGHUP');
      await until(() => program.output().includes('"reloaded"'));
      assert.match(program.output(), /"certificate":"taken up","msg":"reloaded"/);
      assert.equal(await ask(), '200 close', 'what is open ends with its next answer');
      await told;
      await assert.rejects(ask());
      assert.equal((await overHttp2(program, newcomer, 'TLSv1.2')).status, 200);
      assert.equal((await overHttp2(program, pki.good, 'TLSv1.2')).status, 0);
    },
  );

  test('a connection does not outlive the certificate that opened it', async (t) => {
    const clock = manualClock(Date.now());
    const { cert, key } = pki.clients.issue('brief', { days: [-1, 5 / (24 * 60)] });
    const { port } = await startWire(t, { clock, clientAuth: 'required', tls: { ...wireCertificate, clientCa: pki.clients.cert } });
    t.after(closeClients);
    const [quiet, talking] = [await openTls(port, { cert, key }), await openTls(port, { cert, key })];
    const toTheEnd = new X509Certificate(cert).validToDate.getTime() - clock.now();
    talking.socket.write(get('/first'));
    await talking.until('GET /first');
    clock.advance(toTheEnd - 20_000);
    await new Promise((resolve) => setTimeout(resolve, 100)); // some checks
    talking.socket.write(get('/last'));
    assert.match(await talking.closed, /connection: close\r\n[^]*GET \/last$/i);
    assert.equal(quiet.socket.destroyed, false);
    clock.advance(20_000);
    await quiet.closed;
  });

  test('what cannot be meant is refused at the start', async (t) => {
    const [auth, caFile] = ['PORTCULLIS_TLS_CLIENT_AUTH', 'PORTCULLIS_TLS_CLIENT_CA_FILE'];
    for (const [env, line] of [
      [{ [auth]: 'required' }, /name the authorities/],
      [{ [caFile]: pki.clients.certFile }, /nobody would be asked/],
      [{ [auth]: 'optional', [caFile]: pki.clients.certFile, PORTCULLIS_TLS_AT_PROXY: 'true' }, /the proxy asks/],
      [{ [auth]: 'required', [caFile]: pki.good.certFile }, /"CN=good" is no certificate of an authority/],
      [{ [auth]: 'required', [caFile]: pki.good.keyFile }, /not certificates as PEM/],
      [{ [auth]: 'required', [caFile]: '/dev/zero' }, /no regular file/],
      [{ [auth]: 'required', [caFile]: '/' }, /this is a folder/],
      [{ [auth]: 'required', [caFile]: '/nowhere' }, /there is no such file/],
    ] as const) {
      const started = await start({ mode: 'dev', env: { ...env, PORTCULLIS_DATA_DIR: folderFor(t) } });
      assert.ok('mistakes' in started && started.mistakes.some((mistake) => line.test(mistake)), String(line));
    }
  });
});

test('the commands of the how-to do what it says', { timeout: 30_000 }, async (t) => {
  const folder = folderFor(t);
  const [make = '', startIt = '', ask = ''] = blocksOf('sh');
  execFileSync('sh', ['-euc', make], { cwd: folder, stdio: 'pipe' });
  const settings = Object.fromEntries([...startIt.matchAll(/PORTCULLIS_(\w+)=(\S+)/g)].map(([, name = '', value = '']) => [name, value]));
  assert.deepEqual(Object.keys(settings), ['TLS_CLIENT_AUTH', 'TLS_CLIENT_CA_FILE']);
  const program = await startProgram(t, { folder: `${folder}/.portcullis/dev`, cwd: folder, settings });
  const [withIt = '', without = ''] = ask.trim().replaceAll(':5000', `:${program.port}`).split('\n');
  const run = (line: string) => promisify(execFile)('sh', ['-c', line], { cwd: folder });
  assert.equal((await run(withIt)).stdout, '{"status":"ok"}');
  await assert.rejects(run(without), ({ stdout, code }: { stdout: string; code: number }) => stdout === '' && code > 0);
  await program.stop();
  const [line] = refusalsOf(program);
  const shown = JSON.parse(blocksOf('json')[0] ?? '');
  assert.deepEqual(Object.fromEntries(Object.keys(shown).map((key) => [key, line[key]])), shown);
});

const fingerprintOf = ({ certFile }: Issued): string =>
  execFileSync('openssl', ['x509', '-in', certFile, '-noout', '-fingerprint', '-sha256'], { encoding: 'utf8' }).trim().replace(/^.*=/, '');
