import { execFileSync } from 'node:child_process';
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

/** A certificate with its key, as PEM and as the files that hold them. */
export type Issued = {
  readonly cert: string;
  readonly key: string;
  readonly certFile: string;
  readonly keyFile: string;
  readonly serial: string;
};

export type Authority = Issued & {
  /**
   * Signs for a name, by openssl.
   * @param how.extensions lines of an extension file. @param how.days from now, both may lie in the past.
   */
  issue(name: string, how?: { extensions?: string; days?: readonly [from: number, to: number]; newKey?: readonly string[] }): Issued;
};

export const forClients = 'extendedKeyUsage=clientAuth';
export const forServers = 'extendedKeyUsage=serverAuth\nsubjectAltName=DNS:localhost,IP:127.0.0.1';

const p256 = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes'];

/** An authority with a folder of its own, which is made. */
export function makeAuthority(folder: string, name: string): Authority {
  mkdirSync(folder);
  writeFileSync(join(folder, 'index.txt'), '');
  writeFileSync(
    join(folder, 'ca.cnf'),
    `[ca]\ndefault_ca=own\n[own]\ndatabase=index.txt\nnew_certs_dir=.\nrand_serial=yes\ndefault_md=sha256\npolicy=any\nunique_subject=no\n[any]\ncommonName=optional\n`,
  );
  const openssl = (...args: string[]) =>
    execFileSync('openssl', args, { cwd: folder, stdio: ['ignore', 'pipe', 'pipe'], encoding: 'utf8' });
  const issued = (stem: string): Issued => {
    const [certFile, keyFile] = [join(folder, `${stem}.pem`), join(folder, `${stem}.key`)];
    const serial = openssl('x509', '-in', certFile, '-noout', '-serial').trim().replace('serial=', '');
    return { cert: readFileSync(certFile, 'utf8'), key: readFileSync(keyFile, 'utf8'), certFile, keyFile, serial };
  };
  openssl('req', '-x509', ...p256, '-days', '30', '-subj', `/CN=${name}`, '-keyout', 'ca.key', '-out', 'ca.pem');
  let count = 0;

  return {
    ...issued('ca'),
    issue(subject, { extensions = forClients, days: [from, to] = [-1, 30], newKey = p256 } = {}) {
      const stem = `${++count}`;
      openssl('req', ...newKey, '-subj', subject ? `/CN=${subject}` : '/', '-keyout', `${stem}.key`, '-out', `${stem}.csr`);
      writeFileSync(join(folder, `${stem}.ext`), extensions);
      const at = (days: number): string => new Date(Date.now() + days * 86_400_000).toISOString().replace(/[-:T]|\..*/g, '') + 'Z';
      const signs = ['-config', 'ca.cnf', '-cert', 'ca.pem', '-keyfile', 'ca.key', '-startdate', at(from), '-enddate', at(to)];
      openssl('ca', '-batch', '-notext', ...signs, '-extfile', `${stem}.ext`, '-in', `${stem}.csr`, '-out', `${stem}.pem`);
      return issued(stem);
    },
  };
}
