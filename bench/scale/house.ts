import { join } from 'node:path';
import { type Clock, systemClock } from '@portcullis/guard';
import { ensureSigningKey } from '../../packages/server/src/flows/keep-keys.ts';
import { login } from '../../packages/server/src/flows/login.ts';
import type { Sender, Tokens } from '../../packages/server/src/flows/services.ts';
import { type House, openHouse } from '../../packages/server/src/house.ts';
import { readSettings } from '../../packages/server/src/settings/read.ts';
import { type Ending, folderFor, undoAfter, wideLimits } from '../../test/support/program.ts';

const MASTER_SECRET = 'q3ZkT0v9yX7uB1nLw5cRj8sHd2fGm6aE4pKi';
const ISSUER = 'https://localhost';

/** What each instance is started with, by bare names: behind a proxy that ends TLS, with limits that nobody meets. */
export const servedSettings = {
  ...wideLimits,
  ISSUER,
  AUDIENCE: 'bench',
  MASTER_SECRET,
  TLS_AT_PROXY: 'true',
  TRUSTED_PROXIES: '127.0.0.1',
};

export type BenchHouse = House & { readonly clock: Clock; readonly folder: string };

/** An instance without its wire, in this process, to be asked past HTTP. Settings by their bare names. */
export async function openBenchHouse(t: Ending, more: Record<string, string>, clock = systemClock()): Promise<BenchHouse> {
  const folder = folderFor(t);
  const env = { ...servedSettings, DATA_DIR: folder, LOG_FILE: join(folder, 'security.log'), ...more };
  const named = Object.fromEntries(Object.entries(env).map(([name, value]) => [`PORTCULLIS_${name}`, value]));
  const reading = readSettings({ mode: 'serve', env: named, flags: {}, readFile: () => '' });
  if ('mistakes' in reading) throw new Error(reading.mistakes.join('\n'));
  const house = await openHouse({ settings: reading.settings, issuer: ISSUER, secrets: [MASTER_SECRET], clock });
  undoAfter(t, house.close);
  await ensureSigningKey(house.services, reading.settings.signingAlg, MASTER_SECRET);
  await house.services.keyRing.load();
  return { ...house, clock, folder };
}

export const sender: Sender = {
  address: '203.0.113.5',
  block: '203.0.113.5',
  requestId: '0198c5a0-0000-7000-8000-000000000000',
  userAgent: 'Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0',
};

/** A login of which everything is real but the hash, which would cost more than all the rest. */
export function logIn({ services }: Pick<House, 'services'>, username: string): Promise<Tokens> {
  const passwords = { ...services.passwords, verify: () => Promise.resolve(true) };
  return login({ ...services, passwords }, { username, password: 'right' }, sender);
}
