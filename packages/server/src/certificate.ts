import { createPrivateKey, type KeyObject, X509Certificate } from 'node:crypto';
import { createSecureContext } from 'node:tls';
import { readText } from './lib/files.ts';
import type { Settings } from './settings/table.ts';

/** What is wrong with the files of the certificate and its key, all of it, a line each; nothing where none are set. */
export function certificateMistakes({ tlsCertFile, tlsKeyFile }: Partial<Pick<Settings, 'tlsCertFile' | 'tlsKeyFile'>>): string[] {
  const mistakes: string[] = [];
  const certFile = look('PORTCULLIS_TLS_CERT_FILE', tlsCertFile, (pem) => new X509Certificate(pem), 'a certificate as PEM');
  const keyFile = look('PORTCULLIS_TLS_KEY_FILE', tlsKeyFile, keyOf, 'a private key as PEM, without a passphrase');
  if (!certFile || !keyFile) return mistakes;
  if (!certFile.content.checkPrivateKey(keyFile.content))
    return [`${keyFile.label}: this key does not belong to the certificate in ${JSON.stringify(tlsCertFile)}`];
  try {
    createSecureContext({ cert: certFile.text, key: keyFile.text });
  } catch {
    mistakes.push(`${certFile.label}: TLS cannot use it: each certificate of the file must be whole, and its key strong enough`);
  }
  return mistakes;

  function look<T>(setting: string, file: string | undefined, read: (text: string) => T, what: string) {
    if (file === undefined) return undefined;
    const label = `${setting} ${JSON.stringify(file)}`;
    let text: string;
    try {
      text = readText(file);
    } catch (error) {
      mistakes.push(`${label}: ${whyUnread(error)}`);
      return undefined;
    }
    try {
      return { label, text, content: read(text) };
    } catch {
      mistakes.push(`${label}: the file is not ${what}`);
      return undefined;
    }
  }
}

const keyOf = (pem: string): KeyObject => createPrivateKey(pem);

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
    default:
      return `the file cannot be read (${code})`;
  }
}
