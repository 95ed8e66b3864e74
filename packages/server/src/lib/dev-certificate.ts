import { createPrivateKey, KeyObject, webcrypto, X509Certificate } from 'node:crypto';
import { existsSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { Clock } from '@portcullis/guard';
import { ownFolder, writePrivately } from './files.ts';
import { randomBytes } from './secret.ts';

export type DevCertificate = {
  /** PEM files, readable by their owner alone. A client that trusts `caFile` trusts the server. */
  readonly certFile: string;
  readonly keyFile: string;
  readonly caFile: string;
  /** `renewed`: what was there had run out, or was not whole. Then `caFile` is a new one too, and must be trusted anew. */
  readonly made: 'new' | 'kept' | 'renewed';
};

const organisation = 'Portcullis demo';
const issuerName = `CN=Portcullis demo CA, O=${organisation}`;

const dayMs = 86_400_000;
/** Browsers refuse more than 398 days. */
const lifeMs = 365 * dayMs;
const renewedBeforeMs = 7 * dayMs;
/** A client whose clock is a little behind should not find a certificate of the future. */
const backdatedMs = 3_600_000;

/**
 * A certificate for localhost, 127.0.0.1 and ::1, and the authority that signed it, kept in `folder` (made if missing, 0700).
 *
 * The authority's private key is never written: it signs this one certificate and is gone. Whoever steals the folder can then
 * pose as localhost, but not mint a certificate for a bank on the machines that trust the authority.
 *
 * The certificate is written last and each file appears whole or not at all, so a start that was killed half-way leaves
 * a set that does not fit together, and the next start makes a new one.
 */
export async function devCertificate(folder: string, clock: Clock): Promise<DevCertificate> {
  const certFile = join(folder, 'cert.pem');
  const keyFile = join(folder, 'key.pem');
  const caFile = join(folder, 'ca.pem');
  const there = existsSync(certFile);
  if (there && (await isFit(certFile, keyFile, caFile, clock.now()))) return { certFile, keyFile, caFile, made: 'kept' };

  const { ca, key, cert } = await issue(clock.now());
  ownFolder(folder);
  writePrivately(caFile, ca);
  writePrivately(keyFile, key);
  writePrivately(certFile, cert);
  return { certFile, keyFile, caFile, made: there ? 'renewed' : 'new' };
}

/** Whether the first certificate of a PEM text was made here. What cannot be read was not. */
export function isDevCertificate(certPem: string): boolean {
  try {
    return new X509Certificate(certPem).issuer.split('\n').includes(`O=${organisation}`);
  } catch {
    return false;
  }
}

async function isFit(certFile: string, keyFile: string, caFile: string, nowMs: number): Promise<boolean> {
  try {
    const cert = new X509Certificate(await readFile(certFile));
    const ca = new X509Certificate(await readFile(caFile));
    const key = createPrivateKey(await readFile(keyFile));
    const lasts = cert.validFromDate.getTime() <= nowMs && cert.validToDate.getTime() >= nowMs + renewedBeforeMs;
    return lasts && cert.checkPrivateKey(key) && cert.verify(ca.publicKey);
  } catch {
    return false;
  }
}

async function issue(nowMs: number): Promise<{ ca: string; key: string; cert: string }> {
  // Asked for here, as reading them takes 150 ms that a start with a kept certificate need not spend. The order matters.
  await import('reflect-metadata');
  const x509 = await import('@peculiar/x509');

  const p256 = { name: 'ECDSA', namedCurve: 'P-256' };
  const signingAlgorithm = { name: 'ECDSA', hash: 'SHA-256' };
  const caKeys = await webcrypto.subtle.generateKey(p256, false, ['sign', 'verify']);
  const keys = await webcrypto.subtle.generateKey(p256, true, ['sign', 'verify']);
  const life = { notBefore: new Date(nowMs - backdatedMs), notAfter: new Date(nowMs - backdatedMs + lifeMs) };

  const ca = await x509.X509CertificateGenerator.createSelfSigned({
    ...life,
    serialNumber: newSerial(),
    name: issuerName,
    keys: caKeys,
    signingAlgorithm,
    extensions: [
      new x509.BasicConstraintsExtension(true, 0, true),
      new x509.KeyUsagesExtension(x509.KeyUsageFlags.keyCertSign, true),
      await x509.SubjectKeyIdentifierExtension.create(caKeys.publicKey),
    ],
  });
  const cert = await x509.X509CertificateGenerator.create({
    ...life,
    serialNumber: newSerial(),
    subject: `CN=localhost, O=${organisation}`,
    issuer: issuerName,
    publicKey: keys.publicKey,
    signingKey: caKeys.privateKey,
    signingAlgorithm,
    extensions: [
      new x509.BasicConstraintsExtension(false, undefined, true),
      new x509.KeyUsagesExtension(x509.KeyUsageFlags.digitalSignature, true),
      new x509.ExtendedKeyUsageExtension([x509.ExtendedKeyUsage.serverAuth]),
      new x509.SubjectAlternativeNameExtension([
        { type: 'dns', value: 'localhost' },
        { type: 'ip', value: '127.0.0.1' },
        { type: 'ip', value: '::1' },
      ]),
      await x509.SubjectKeyIdentifierExtension.create(keys.publicKey),
      await x509.AuthorityKeyIdentifierExtension.create(caKeys.publicKey),
    ],
  });
  const key = KeyObject.from(keys.privateKey).export({ type: 'pkcs8', format: 'pem' }).toString();
  return { ca: pem(ca), key, cert: pem(cert) };

  function pem(certificate: { toString(format: 'pem'): string }): string {
    return `${certificate.toString('pem')}\n`;
  }
}

/** 126 random bits in hex; the two bits in front keep the number positive and its length the same (RFC 5280 section 4.1.2.2). */
function newSerial(): string {
  const bytes = randomBytes(16);
  bytes[0] = (bytes[0]! & 0x3f) | 0x40;
  return bytes.toString('hex');
}
