import assert from 'node:assert/strict';
import { execFile, spawn } from 'node:child_process';
import { X509Certificate } from 'node:crypto';
import { once } from 'node:events';
import { copyFile, mkdir, mkdtemp, readdir, readFile, rm, stat, symlink, truncate, writeFile } from 'node:fs/promises';
import { createServer, get } from 'node:https';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { promisify } from 'node:util';
import { manualClock, systemClock } from '@portcullis/guard';
import { devCertificate, isDevCertificate } from '../src/lib/dev-certificate.ts';

const run = promisify(execFile);
const dayMs = 86_400_000;
const root = await mkdtemp(join(tmpdir(), 'dev-certificate-'));
after(() => rm(root, { recursive: true }));
let folders = 0;
const newFolder = () => join(root, String(++folders), 'deep');

test('a client that trusts the authority, and only such a one, reaches all three names of the server', async () => {
  const { certFile, keyFile, caFile } = await devCertificate(newFolder(), systemClock());
  const [cert, key, ca] = await Promise.all([certFile, keyFile, caFile].map((file) => readFile(file)));
  const server = createServer({ cert, key }, (_, response) => response.end('hello'));
  try {
    server.listen(0, '127.0.0.1');
    await once(server, 'listening');
    const { port } = server.address() as AddressInfo; // an IP server's address is never a string

    assert.equal(await body({ port, host: '127.0.0.1', ca }), 'hello');
    assert.equal(await body({ port, host: '127.0.0.1', ca, servername: 'localhost' }), 'hello');
    await assert.rejects(body({ port, host: '127.0.0.1' }), { code: 'UNABLE_TO_VERIFY_LEAF_SIGNATURE' });
    await assert.rejects(body({ port, host: '127.0.0.1', ca, servername: 'example.com' }), { code: 'ERR_TLS_CERT_ALTNAME_INVALID' });

    for (const name of ['localhost', '127.0.0.1', '[::1]']) {
      const args = [
        '--silent',
        '--show-error',
        '--max-time',
        '5',
        '--noproxy',
        '*',
        '--connect-to',
        `::127.0.0.1:${port}`,
        `https://${name}:${port}/`,
      ];
      assert.equal((await run('curl', ['--cacert', caFile, ...args])).stdout, 'hello', name);
      await assert.rejects(run('curl', args), { code: 60 }, 'not trusted without it');
    }
  } finally {
    server.close();
    server.closeAllConnections();
  }

  function body(options: object): Promise<string> {
    return new Promise((resolve, reject) => {
      get({ ...options, agent: false }, (response) => response.setEncoding('utf8').once('data', resolve)).once('error', reject);
    });
  }
});

test('openssl finds the chain in order, to the letter of RFC 5280, for a server and for nothing else', async () => {
  const { certFile, caFile } = await devCertificate(newFolder(), systemClock());
  const verify = (...args: string[]) => run('openssl', ['verify', '-x509_strict', '-CAfile', caFile, ...args, certFile]);
  await verify('-purpose', 'sslserver', '-verify_hostname', 'localhost');
  await verify('-purpose', 'sslserver', '-verify_ip', '::1');
  await assert.rejects(verify('-purpose', 'sslclient'));
  await assert.rejects(verify('-verify_hostname', 'example.com'));
});

test('the certificate says what it should', async () => {
  const clock = manualClock();
  const { certFile, caFile } = await devCertificate(newFolder(), clock);
  const { stdout: ca } = await run('openssl', ['x509', '-in', caFile, '-noout', '-text']);
  assert.match(ca, /Basic Constraints: critical\s+CA:TRUE, pathlen:0\s/);
  assert.match(ca, /Key Usage: critical\s+Certificate Sign\s/);
  assert.match(ca, /Subject: CN = Portcullis demo CA, O = Portcullis demo\s/);

  const cert = new X509Certificate(await readFile(certFile));
  assert.equal(cert.ca, false);
  assert.equal(cert.subjectAltName, 'DNS:localhost, IP Address:127.0.0.1, IP Address:0:0:0:0:0:0:0:1');
  assert.deepEqual(cert.keyUsage, ['1.3.6.1.5.5.7.3.1']);
  assert.equal(cert.publicKey.asymmetricKeyDetails?.namedCurve, 'prime256v1');
  assert.ok(cert.validFromDate.getTime() <= clock.now());
  assert.ok(cert.validToDate.getTime() - cert.validFromDate.getTime() <= 397 * dayMs);

  const serials = [cert.serialNumber, new X509Certificate(await readFile(caFile)).serialNumber];
  for (const serial of serials) assert.match(serial, /^[4-7][0-9A-F]{31}$/);
  assert.notEqual(serials[0], serials[1]);
});

test('only the owner can read it, and the key of the authority is nowhere', async () => {
  const folder = newFolder();
  const { certFile, keyFile } = await devCertificate(folder, manualClock());
  assert.deepEqual((await readdir(folder)).toSorted(), ['ca.pem', 'cert.pem', 'key.pem']);
  assert.equal((await stat(folder)).mode & 0o777, 0o700);
  for (const file of await readdir(folder)) assert.equal((await stat(join(folder, file))).mode & 0o777, 0o600, file);

  const texts = await Promise.all((await readdir(folder)).map((file) => readFile(join(folder, file), 'utf8')));
  assert.equal(texts.join('').match(/PRIVATE KEY-----\n/g)?.length, 2, 'one private key, begun and ended');
  const { stdout } = await run('openssl', ['pkey', '-in', keyFile, '-pubout']);
  const { stdout: certs } = await run('openssl', ['x509', '-in', certFile, '-noout', '-pubkey']);
  assert.equal(stdout, certs, "and it is the server's");
});

test('it is kept until seven days before its end, then renewed', async () => {
  const folder = newFolder();
  const clock = manualClock();
  const { certFile, made } = await devCertificate(folder, clock);
  assert.equal(made, 'new');
  const endsAt = new X509Certificate(await readFile(certFile)).validToDate.getTime();
  const first = await contents(folder);

  clock.advance(endsAt - 7 * dayMs - clock.now());
  assert.equal((await devCertificate(folder, clock)).made, 'kept');
  assert.deepEqual(await contents(folder), first);

  clock.advance(1);
  assert.equal((await devCertificate(folder, clock)).made, 'renewed');
  const second = await contents(folder);
  for (const file of Object.keys(first)) assert.notEqual(second[file], first[file], file);
  assert.equal((await devCertificate(folder, clock)).made, 'kept');
});

test('a certificate of the future is renewed too', async () => {
  const folder = newFolder();
  const clock = manualClock();
  await devCertificate(folder, manualClock(clock.now() + 30 * dayMs));
  assert.equal((await devCertificate(folder, clock)).made, 'renewed');
});

test('a set that is not whole or does not fit together is made anew', async (t) => {
  const clock = manualClock();
  const other = newFolder();
  await devCertificate(other, clock);

  for (const file of ['ca.pem', 'key.pem', 'cert.pem']) {
    const damages: [string, (path: string) => Promise<unknown>][] = [
      ['missing', (path) => rm(path)],
      ['empty', (path) => truncate(path)],
      ['cut off', (path) => truncate(path, 100)],
      ['nonsense', (path) => writeFile(path, 'nonsense')],
      ['of another set', (path) => copyFile(join(other, file), path)],
    ];
    for (const [damage, inflict] of damages) {
      await t.test(`${file} ${damage}`, async () => {
        const folder = newFolder();
        await devCertificate(folder, clock);
        await inflict(join(folder, file));
        const { made } = await devCertificate(folder, clock);
        assert.equal(made, file === 'cert.pem' && damage === 'missing' ? 'new' : 'renewed');
        assert.equal((await devCertificate(folder, clock)).made, 'kept');
      });
    }
  }
});

test('a start killed anywhere leaves nothing that the next start cannot use', async () => {
  // Each turn is a year after the one before, so each renews; the turns end by themselves if nobody kills them.
  const script = `import { devCertificate } from ${JSON.stringify(import.meta.resolve('../src/lib/dev-certificate.ts'))};
    for (let year = 1; year < 1_000; year++) {
      await devCertificate(process.argv[1], { now: () => (year % 100) * 366 * ${dayMs} });
      process.stdout.write('.');
    }`;
  const folder = newFolder();
  const clock = manualClock();
  for (let round = 0; round < 5; round++) {
    const child = spawn(process.execPath, ['--input-type=module', '-e', script, folder], { stdio: ['ignore', 'pipe', 'inherit'] });
    await once(child.stdout, 'data');
    await new Promise((resolve) => setTimeout(resolve, Math.random() * 20));
    child.kill('SIGKILL');
    await once(child, 'exit');
    assert.notEqual((await devCertificate(folder, clock)).made, 'new');
    assert.equal((await devCertificate(folder, clock)).made, 'kept');
  }
});

test('a draft left by a killed start, or laid there as a link, is not written through', async () => {
  const folder = newFolder();
  await mkdir(folder, { recursive: true });
  const bystander = join(folder, '..', 'bystander');
  await writeFile(bystander, 'not ours');
  await symlink(bystander, join(folder, 'ca.pem.new'));
  await writeFile(join(folder, 'key.pem.new'), 'old', { mode: 0o644 });
  assert.equal((await devCertificate(folder, manualClock())).made, 'new');
  assert.deepEqual((await readdir(folder)).toSorted(), ['ca.pem', 'cert.pem', 'key.pem']);
  assert.equal((await stat(join(folder, 'key.pem'))).mode & 0o777, 0o600);
  assert.equal(await readFile(bystander, 'utf8'), 'not ours');
});

test('a certificate of the demo is told from any other', async () => {
  const folder = newFolder();
  const { certFile, caFile } = await devCertificate(folder, manualClock());
  const pem = await readFile(certFile, 'utf8');
  const ca = await readFile(caFile, 'utf8');
  assert.ok(isDevCertificate(pem));
  assert.ok(isDevCertificate(pem + ca), 'with its chain');

  const own = join(folder, 'own.pem');
  await run('openssl', [
    'req',
    '-x509',
    '-newkey',
    'ec',
    '-pkeyopt',
    'ec_paramgen_curve:P-256',
    '-nodes',
    '-keyout',
    join(folder, 'own.key'),
    '-out',
    own,
    '-subj',
    '/CN=localhost/OU=Portcullis demo/O=Portcullis demo and sons',
    '-days',
    '2',
  ]);
  assert.equal(isDevCertificate(await readFile(own, 'utf8')), false);
  assert.equal(isDevCertificate(''), false);
});

async function contents(folder: string): Promise<Record<string, string>> {
  const files = await readdir(folder);
  return Object.fromEntries(await Promise.all(files.map(async (file) => [file, await readFile(join(folder, file), 'utf8')] as const)));
}
