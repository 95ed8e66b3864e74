import { createHash, createPrivateKey, X509Certificate } from 'node:crypto';
import { createSecureContext } from 'node:tls';
import type { Certificate } from './http/wire.ts';
import { subjectOf } from './lib/certificate-names.ts';
import { readBounded } from './lib/files.ts';
import type { Settings } from './settings/table.ts';

export type CertificateFiles = Partial<Pick<Settings, 'tlsCertFile' | 'tlsKeyFile' | 'tlsClientCaFile'>>;

/** A certificate with all that belongs to it, found good together. */
export type UsableCertificate = {
  readonly pem: Certificate;
  readonly leaf: X509Certificate;
  readonly clientCas: readonly X509Certificate[];
};

/** What the files hold. `digest` tells one content from another without a further look at it. */
export type CertificateReading = {
  readonly digest: string;
  /** What is wrong with it, a line each; without any, and where certificate and key are both set, what there is to use. */
  check(): { readonly mistakes: readonly string[]; readonly found?: UsableCertificate };
};

/** Reads the files of a certificate and its key, and of the authorities of clients, as far as they are set. It never throws. */
export async function readCertificate({ tlsCertFile, tlsKeyFile, tlsClientCaFile }: CertificateFiles): Promise<CertificateReading> {
  const [cert, key, clientCa] = await Promise.all([
    read('PORTCULLIS_TLS_CERT_FILE', tlsCertFile),
    read('PORTCULLIS_TLS_KEY_FILE', tlsKeyFile),
    read('PORTCULLIS_TLS_CLIENT_CA_FILE', tlsClientCaFile),
  ]);
  const texts = [cert, key, clientCa].map((file) => (file && 'text' in file ? file.text : null));
  return {
    digest: createHash('sha256').update(JSON.stringify(texts)).digest('base64'),
    check: () => check(cert, key, clientCa),
  };
}

/** Far more than any chain or list of authorities takes. */
export const MAX_CERTIFICATE_BYTES = 1024 * 1024;

type File = { readonly label: string; readonly path: string } & ({ readonly text: string } | { readonly wrong: string });

async function read(setting: string, path: string | undefined): Promise<File | undefined> {
  if (path === undefined) return undefined;
  const label = `${setting} ${JSON.stringify(path)}`;
  return readBounded(path, MAX_CERTIFICATE_BYTES).then(
    (text) => ({ label, path, text }),
    (error: unknown) => ({ label, path, wrong: whyUnread(error) }),
  );
}

function check(cert: File | undefined, key: File | undefined, clientCa: File | undefined): ReturnType<CertificateReading['check']> {
  const mistakes: string[] = [];
  const leaf = look(cert, (text) => ({ text, x509: new X509Certificate(text) }), 'a certificate as PEM');
  const own = look(key, (text) => ({ text, key: createPrivateKey(text) }), 'a private key as PEM, without a passphrase');
  const clientCas = look(clientCa, certificatesOf, 'certificates as PEM, and nothing else') ?? [];
  for (const ca of clientCas) {
    const wrong = whyNoAuthority(ca, clientCas);
    if (wrong) mistakes.push(`${clientCa?.label}: ${JSON.stringify(subjectOf(ca))} ${wrong}`);
  }
  if (!leaf || !own) return { mistakes };
  const pem = { cert: leaf.text, key: own.text, ...(clientCas.length > 0 && { clientCa: clientCas.map(String).join('') }) };
  if (!leaf.x509.checkPrivateKey(own.key))
    mistakes.push(`${key?.label}: this key does not belong to the certificate in ${JSON.stringify(cert?.path)}`);
  else if (!isUsable(pem))
    mistakes.push(`${cert?.label}: TLS cannot use it: each certificate of the file must be whole, and its key strong enough`);
  return mistakes.length > 0 ? { mistakes } : { mistakes, found: { pem, leaf: leaf.x509, clientCas } };

  function look<T>(file: File | undefined, read: (text: string) => T, what: string): T | undefined {
    if (!file) return undefined;
    if ('wrong' in file) {
      mistakes.push(`${file.label}: ${file.wrong}`);
      return undefined;
    }
    try {
      return read(file.text);
    } catch {
      mistakes.push(`${file.label}: the file is not ${what}`);
      return undefined;
    }
  }
}

function certificatesOf(pem: string): X509Certificate[] {
  const all = pem.match(/-----BEGIN CERTIFICATE-----[^-]*-----END CERTIFICATE-----/g) ?? [];
  if (all.length === 0 || all.length !== pem.split('-----BEGIN ').length - 1) throw new Error('not whole, or something else beside');
  return all.map((one) => new X509Certificate(one));
}

/** OpenSSL trusts roots alone: an authority between needs the one above it in the same file. */
function whyNoAuthority(ca: X509Certificate, all: readonly X509Certificate[]): string | undefined {
  if (!ca.ca) return 'is no certificate of an authority: it would let in nobody but its owner, if at all';
  return all.some((above) => ca.checkIssued(above) && ca.verify(above.publicKey))
    ? undefined
    : 'is not a root: put the certificate of the authority that signed it into the file too';
}

function isUsable({ cert, key, clientCa }: Certificate): boolean {
  try {
    createSecureContext({ cert, key, ...(clientCa !== undefined && { ca: clientCa }) });
    return true;
  } catch {
    return false;
  }
}

function whyUnread(error: unknown): string {
  const { code = 'for an unknown reason' } = Object(error) as NodeJS.ErrnoException; // what Node's own errors have
  switch (code) {
    case 'ENOENT':
      return 'there is no such file';
    case 'EACCES':
    case 'EPERM':
      return 'the file may not be read by this user';
    case 'EISDIR':
      return 'this is a folder, not a file';
    case 'EFBIG':
      return 'this is larger than 1 MiB, or no regular file';
    default:
      return `the file cannot be read (${code})`;
  }
}
