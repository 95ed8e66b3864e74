import { readFileSync } from 'node:fs';
import { createServer } from 'node:http';
import { join } from 'node:path';
import { manualClock, systemClock } from '@portcullis/guard';
import { makeApp } from '../../packages/server/src/app.ts';
import { addUser } from '../../packages/server/src/flows/add-user.ts';
import { ensureSigningKey } from '../../packages/server/src/flows/keep-keys.ts';
import { type House, openHouse } from '../../packages/server/src/house.ts';
import type { Server } from '../../packages/server/src/http/server.ts';
import { readSettings } from '../../packages/server/src/settings/read.ts';
import type { Settings } from '../../packages/server/src/settings/table.ts';
import { type Ending, folderFor, undoAfter } from './program.ts';

/** A long password that nobody uses. */
export const PASSWORD = 'seven grey herons at noon';

/**
 * The server without its wire, in this process, so that a test can count what it does: `app.inject` asks. Settings by
 * their bare names; one user, `alice`, with {@link PASSWORD}.
 */
export async function openApp(
  t: { after(work: () => Promise<void> | void): void },
  settings: Record<string, string> = {},
  more: { routes?: (app: Server) => void; house?: (house: House) => House } = {},
): Promise<{ app: Server; house: House }> {
  const read = settingsOf(folderFor(t), settings);
  const [issuer, masterSecret] = ['https://localhost', 'a secret of thirty-two bytes or more'];
  const opened = await openHouse({ settings: read, issuer, secrets: [masterSecret], clock: systemClock() });
  await ensureSigningKey(opened.services, 'EdDSA', masterSecret);
  await opened.services.keyRing.load();
  await addUser(opened.services, 'alice', PASSWORD);
  const house = more.house?.(opened) ?? opened;
  const { app } = await makeApp({
    settings: read,
    issuer,
    house,
    readiness: () => Promise.resolve(undefined),
    serverFactory: (handler) =>
      createServer((request, response) => {
        handler(request, response);
      }),
    ...(more.routes && { routes: more.routes }),
  });
  t.after(async () => {
    await app.close();
    await opened.close();
  });
  return { app, house };
}

/**
 * A house without an app, whose time is moved by hand: its flows, its store and its security log. Settings by their bare names;
 * the store is in memory unless they say otherwise. One key, and one user, `Anna`.
 */
export async function openTestHouse(t: Ending, password: string, settings: Record<string, string> = {}) {
  const folder = folderFor(t);
  const clock = manualClock();
  const house = await openHouse({ settings: settingsOf(folder, settings), issuer: 'https://localhost', secrets: ['secret'], clock });
  undoAfter(t, () => house.close());
  await ensureSigningKey(house.services, 'EdDSA', 'secret');
  await house.services.keyRing.load();
  await addUser(house.services, 'Anna', password);
  const lines = (): string[] => {
    house.securityLog.close(); // writes what is waiting
    return readFileSync(join(folder, 'security.log'), 'utf8').trimEnd().split('\n');
  };
  return { ...house, clock, lines, file: join(folder, 'portcullis.db') };
}

function settingsOf(folder: string, settings: Record<string, string>): Settings {
  const env = { DATA_DIR: folder, DATABASE_URL: 'sqlite::memory:', ...settings };
  const named = Object.fromEntries(Object.entries(env).map(([name, value]) => [`PORTCULLIS_${name}`, value]));
  const reading = readSettings({ mode: 'dev', env: named, flags: {}, readFile: () => '' });
  if ('mistakes' in reading) throw new Error(reading.mistakes.join('\n'));
  return reading.settings;
}
