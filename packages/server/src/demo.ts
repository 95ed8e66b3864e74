import { existsSync } from 'node:fs';
import { join } from 'node:path';
import type { Clock } from '@portcullis/guard';
import { type DevCertificate, devCertificate } from './lib/dev-certificate.ts';
import { ownFolder, readText, writePrivately } from './lib/files.ts';
import { randomBytes } from './lib/secret.ts';

/** The demo's user and password: known to everyone, so `serve` starts with no store that has them. */
export const DEMO_USER = { username: 'testuser', password: 'password123' } as const;

/** Marks a secret as the demo's, so that `serve` can tell. */
const DEMO_SECRET_PREFIX = 'demo-';

export const isDemoSecret = (secret: string): boolean => secret.startsWith(DEMO_SECRET_PREFIX);

/** A secret of the demo's own, made once. */
export function demoSecret(dataDir: string): { secret: string; file: string; how: 'new' | 'kept' } {
  const file = join(dataDir, 'master-secret');
  ownFolder(dataDir);
  if (existsSync(file)) return { secret: readText(file).trim(), file, how: 'kept' };
  const secret = DEMO_SECRET_PREFIX + randomBytes(32).toString('base64url');
  writePrivately(file, `${secret}\n`);
  return { secret, file, how: 'new' };
}

export const demoCertificate = (dataDir: string, clock: Clock): Promise<DevCertificate> => devCertificate(dataDir, clock);
