import assert from 'node:assert/strict';
import { rmSync, writeFileSync } from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test, type TestContext } from 'node:test';
import 'reflect-metadata'; // the next needs it
import * as x509 from '@peculiar/x509';
import { manualClock } from '@portcullis/guard';
import { certificateDetail, keepCertificate } from '../src/keep-certificate.ts';

const dayMs = 86_400_000;
const root = await mkdtemp(join(tmpdir(), 'keep-certificate-'));
after(() => rm(root, { recursive: true }));
let count = 0;

async function made(
  clock: { now(): number },
  { days = 90, from = -1, host = 'api.example.com' } = {},
): Promise<{ cert: string; key: string }> {
  const algorithm = { name: 'ECDSA', namedCurve: 'P-256', hash: 'SHA-256' };
  const keys = await crypto.subtle.generateKey(algorithm, true, ['sign', 'verify']);
  const certificate = await x509.X509CertificateGenerator.createSelfSigned({
    name: `CN=${host}`,
    keys,
    signingAlgorithm: algorithm,
    serialNumber: `0${++count}`,
    notBefore: new Date(clock.now() + from * dayMs),
    notAfter: new Date(clock.now() + days * dayMs),
    extensions: [new x509.SubjectAlternativeNameExtension([{ type: 'dns', value: host }])],
  });
  const key = await crypto.subtle.exportKey('pkcs8', keys.privateKey);
  return { cert: certificate.toString('pem'), key: x509.PemConverter.encode(key, 'PRIVATE KEY') };
}

async function kept(t: TestContext, how: { days?: number; from?: number; host?: string } = {}) {
  const clock = manualClock();
  const [certFile, keyFile] = [join(root, `${++count}.pem`), join(root, `${count}.key`)];
  const put = (part: { cert?: string; key?: string }): void => {
    if (part.cert !== undefined) writeFileSync(certFile, part.cert);
    if (part.key !== undefined) writeFileSync(keyFile, part.key);
  };
  put(await made(clock, how));
  const said: string[] = [];
  const taken: string[] = [];
  const say = (level: string) => (_: unknown, text: string) => void said.push(`${level}: ${text}`);
  const keeper = await keepCertificate({
    files: { tlsCertFile: certFile, tlsKeyFile: keyFile },
    issuer: 'https://api.example.com',
    clock,
    take: ({ cert }) => void taken.push(cert),
    log: { info: say('info'), warn: say('warn'), error: say('error') },
  });
  t.after(() => [certFile, keyFile].forEach((file) => rmSync(file, { force: true })));
  return { keeper, clock, put, taken, said: () => said.splice(0) };
}

test('what two looks find the same is acted upon, so that files may be written one after the other', async (t) => {
  const { keeper, clock, put, taken, said } = await kept(t);
  const { cert, key } = await made(clock);
  put({ cert: cert.slice(0, 100) });
  assert.equal(await keeper.look(), 'unchanged');
  put({ cert });
  assert.equal(await keeper.look(), 'unchanged');
  put({ key });
  assert.equal(await keeper.look(), 'unchanged');
  assert.deepEqual([taken, said(), keeper.status().unusable], [[], [], []]);
  assert.equal(await keeper.look(), 'taken up');
  assert.deepEqual([taken, said()], [[cert], ['info: certificate taken up']]);
  assert.equal(await keeper.look(), 'unchanged');
  assert.deepEqual([taken.length, said()], [1, []]);
});

test('what stays unusable is said once, another reason once more, and that it is good again', async (t) => {
  const { keeper, clock, put, taken, said } = await kept(t);
  const { serial } = keeper.status();
  put({ cert: 'nothing' });
  for (let i = 0; i < 5; i += 1) await keeper.look();
  assert.deepEqual(said(), ['error: the certificate on the disk is unusable: the old one stays']);
  assert.match(keeper.status().unusable.join(), /not a certificate/);
  put({ cert: (await made(clock)).cert });
  for (let i = 0; i < 5; i += 1) await keeper.look();
  assert.equal(said().length, 1);
  assert.match(keeper.status().unusable.join(), /does not belong/);
  assert.deepEqual([taken, keeper.status().serial], [[], serial]);
  put({ cert: keeper.pem.cert });
  assert.equal(await keeper.look(), 'unchanged');
  assert.deepEqual([said(), keeper.status().unusable], [['info: the files hold the certificate in use again'], []]);
});

test('one that is not valid yet is taken up when it is', async (t) => {
  const { keeper, clock, put, taken } = await kept(t);
  put(await made(clock, { from: 1 }));
  assert.equal(await keeper.look('at once'), 'unusable');
  clock.advance(dayMs);
  assert.equal(await keeper.look(), 'taken up');
  assert.equal(taken.length, 1);
});

test('one that is not valid yet serves from the start where there is no other, and is said to be early', async (t) => {
  const { keeper, clock, said } = await kept(t, { from: 2 });
  assert.deepEqual(said(), ['error: the certificate is not valid yet']);
  assert.equal(certificateDetail(keeper.status(), clock.now()).notBefore, new Date(clock.now() + 2 * dayMs).toISOString());
  clock.advance(2 * dayMs);
  assert.equal(await keeper.look(), 'unchanged');
  assert.deepEqual(said(), []);
});

test('the end is warned of once a day from three weeks before on, and an error once it is there', async (t) => {
  const { keeper, clock, said, put } = await kept(t, { days: 22 });
  const daily = async (days: number): Promise<string[]> => {
    for (let hour = 0; hour < 24 * days; hour += 1) {
      clock.advance(dayMs / 24);
      await keeper.look();
    }
    return said();
  };
  assert.deepEqual(said(), []);
  assert.deepEqual(await daily(2), [
    'warn: the certificate expires in less than 22 days',
    'warn: the certificate expires in less than 21 days',
  ]);
  assert.equal((await daily(18)).length, 18);
  assert.deepEqual(await daily(3), [
    'warn: the certificate expires in less than 2 days',
    'error: the certificate has expired',
    'error: the certificate has expired',
  ]);
  put(await made(clock));
  assert.equal(await keeper.look('at once'), 'taken up');
  assert.deepEqual([said(), await daily(3)], [['info: certificate taken up'], []]);
});

test('one for another host is a note', async (t) => {
  const { keeper, clock, put, said } = await kept(t, { host: 'elsewhere.example' });
  assert.deepEqual(keeper.notes, ['The certificate is not for api.example.com, the host of PORTCULLIS_ISSUER, but for elsewhere.example.']);
  put(await made(clock, { host: '*.example.com' }));
  await keeper.look('at once');
  assert.deepEqual(said(), ['info: certificate taken up']);
  put(await made(clock, { host: 'elsewhere.example' }));
  await keeper.look('at once');
  assert.equal(said().length, 2);
});
