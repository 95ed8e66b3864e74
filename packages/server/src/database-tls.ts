import { createPrivateKey, X509Certificate } from 'node:crypto';
import { readText } from './lib/files.ts';
import { parsePostgresUrl } from './lib/postgres-url.ts';
import { Mistake, openSet } from './mistake.ts';
import type { Database } from './settings/kinds.ts';
import type { PostgresOptions } from './storage/sql/postgres.ts';

/** What is in the files that the URL of a database names. @throws {Mistake} that names the file. */
export function readDatabaseTls(url: string): NonNullable<PostgresOptions['tls']> {
  const { caFile, certFile, keyFile } = parsePostgresUrl(url).tls ?? {};
  return {
    ...(caFile !== undefined && { ca: read('sslrootcert', caFile, 'a certificate as PEM', (text) => new X509Certificate(text)) }),
    ...(certFile !== undefined && { cert: read('sslcert', certFile, 'a certificate as PEM', (text) => new X509Certificate(text)) }),
    ...(keyFile !== undefined && { key: read('sslkey', keyFile, 'a private key as PEM, without a passphrase', createPrivateKey) }),
  };
}

function read(word: string, file: string, what: string, check: (text: string) => unknown): string {
  const text = openSet(`PORTCULLIS_DATABASE_URL, ${word}`, file, () => readText(file));
  try {
    check(text);
    return text;
  } catch {
    throw new Mistake(`PORTCULLIS_DATABASE_URL, ${word}: ${file} is not ${what}`);
  }
}

/** Why a database did not answer when it was first asked, and what to do, for an operator. @param cause what the driver threw. */
export function whyNoDatabase(database: Database, cause: unknown): string {
  const { code, message }: { code?: string; message: string } = cause instanceof Error ? cause : new Error(''); // a driver's errors have codes
  if (database.engine !== 'postgres') return 'is it there, and does PORTCULLIS_DATABASE_URL name it rightly?';
  const { host } = parsePostgresUrl(database.url);
  const inClear = 'or, where nobody else can listen on the way, write sslmode=disable in its URL';
  switch (code) {
    case 'ERR_TLS_CERT_ALTNAME_INVALID':
      return `its certificate is not for ${JSON.stringify(host)} (${message}): name it in its URL as its certificate does, or give it one for this name`;
    case 'CERT_HAS_EXPIRED':
      return 'its certificate has expired: give it a new one';
    case 'SELF_SIGNED_CERT_IN_CHAIN':
    case 'DEPTH_ZERO_SELF_SIGNED_CERT':
    case 'UNABLE_TO_GET_ISSUER_CERT':
    case 'UNABLE_TO_GET_ISSUER_CERT_LOCALLY':
    case 'UNABLE_TO_VERIFY_LEAF_SIGNATURE':
    case 'CERT_SIGNATURE_FAILURE':
      return 'its certificate is of an authority that is not trusted here: name the file of the right one as sslrootcert=FILE in its URL; if there is no other, this is not your database';
    case '28P01':
      return 'the password is not right: look at PORTCULLIS_DATABASE_PASSWORD_FILE';
    case '28000':
      return /no encryption/.test(message)
        ? 'it lets nobody in without TLS, or not this user from here (its pg_hba.conf says who): write sslmode=verify-full in its URL'
        : `it does not let this user in (${message})`;
    case '3D000':
      return 'there is no such database: make it, with "createdb"';
    case undefined:
      if (/does not support SSL/.test(message)) return `it has no TLS: switch ssl on there, ${inClear}`;
      if (/password must be/.test(message)) return 'it asks for a password: put it into PORTCULLIS_DATABASE_PASSWORD_FILE';
      break;
    default:
  }
  return 'is it there, and does PORTCULLIS_DATABASE_URL name it rightly?';
}
