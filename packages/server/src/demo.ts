import { existsSync } from 'node:fs';
import { dirname, join, resolve } from 'node:path';
import type { Clock } from '@portcullis/guard';
import { MAX_CERTIFICATE_BYTES } from './certificate.ts';
import { storeFile } from './open-database.ts';
import type { User } from './domain/user/user.ts';
import { type DevCertificate, devCertificate, isDevCertificate } from './lib/dev-certificate.ts';
import { ownFolder, readBounded, readText, writePrivately } from './lib/files.ts';
import { randomBytes } from './lib/secret.ts';
import { Mistake } from './mistake.ts';
import type { Settings } from './settings/table.ts';
import { sqliteStore } from './storage/sql/sql-store.ts';

/** The demo's user and password: known to everyone, so `serve` starts with no store that has them. */
export const DEMO_USER = { username: 'testuser', password: 'password123' } as const;

/** Marks a secret as the demo's, so that `serve` can tell. */
const DEMO_SECRET_PREFIX = 'demo-';

const isDemoSecret = (secret: string): boolean => secret.startsWith(DEMO_SECRET_PREFIX);

export const secretFile = (dataDir: string): string => join(dataDir, 'master-secret');

/** The demo's secret, if the folder has one. */
export function findDemoSecret(dataDir: string): string | undefined {
  try {
    const secret = readText(secretFile(dataDir)).trim();
    return isDemoSecret(secret) ? secret : undefined;
  } catch {
    return undefined;
  }
}

/** A secret of the demo's own, made once. @throws {Mistake} when there is something else in its place. */
export function demoSecret(dataDir: string): { secret: string; file: string; how: 'new' | 'kept' } {
  const file = secretFile(dataDir);
  ownFolder(dataDir);
  const kept = findDemoSecret(dataDir);
  if (kept !== undefined) return { secret: kept, file, how: 'kept' };
  if (existsSync(file))
    throw new Mistake(`${file} is not the secret that a demo made: put that back, or take the folder away and start anew`);
  const secret = DEMO_SECRET_PREFIX + randomBytes(32).toString('base64url');
  writePrivately(file, `${secret}\n`);
  return { secret, file, how: 'new' };
}

export const demoCertificate = (dataDir: string, clock: Clock): Promise<DevCertificate> => devCertificate(dataDir, clock);

/** What of the demo `serve` would be running with: each is a reason not to start. */
export async function tracesOfDemo({
  masterSecret,
  masterSecretPrevious,
  tlsCertFile,
  dataDir,
  database,
}: Partial<Settings>): Promise<string[]> {
  const traces: string[] = [];
  if (masterSecret !== undefined && isDemoSecret(masterSecret))
    traces.push('PORTCULLIS_MASTER_SECRET: this is the secret of a demo; make one of your own');
  if (masterSecretPrevious !== undefined && isDemoSecret(masterSecretPrevious))
    traces.push('PORTCULLIS_MASTER_SECRET_PREVIOUS: this is the secret of a demo, and what it has sealed is for a demo');
  if (tlsCertFile !== undefined && (await isDemoCertificate(tlsCertFile)))
    traces.push("PORTCULLIS_TLS_CERT_FILE: this is the demo's certificate; nobody else trusts it");
  if (dataDir === undefined || database === undefined) return traces;
  if (findDemoSecret(dataDir) !== undefined)
    traces.push(`PORTCULLIS_DATA_DIR: ${dataDir} is the folder of a demo; give serve one of its own`);
  const file = storeFile({ dataDir, database });
  if (file === undefined || file === ':memory:' || !existsSync(file)) return traces;
  const user = await findDemoUser(file);
  if (user) traces.push(traceOfUser(user));
  return traces;
}

export const traceOfUser = ({ username }: User): string =>
  `the store has the demo's user "${username}", whose password everybody knows: "portcullis users set-password ${username}" gives it another, "users remove" takes it away`;

/** What cannot be read has no trace of the demo, here and below; why it cannot is said when it is opened in earnest. */
async function isDemoCertificate(file: string): Promise<boolean> {
  try {
    return isDevCertificate(await readBounded(file, MAX_CERTIFICATE_BYTES));
  } catch {
    return false;
  }
}

/** Whether a store that is there already was made by a demo: into any other, `dev` puts no user whose password everyone knows. */
export async function isDemoStore(dataDir: string, database: string): Promise<boolean> {
  const isInFolder = dirname(database) === resolve(dataDir);
  return (isInFolder && findDemoSecret(dataDir) !== undefined) || (await findDemoUser(database)) !== undefined;
}

async function findDemoUser(file: string): Promise<User | undefined> {
  await using held = new AsyncDisposableStack();
  try {
    const store = sqliteStore(file);
    held.defer(store.close);
    return await store.users.findDemo();
  } catch {
    return undefined;
  }
}
