import { createServer } from 'node:http';
import { systemClock } from '@portcullis/guard';
import { makeApp } from '../../packages/server/src/app.ts';
import { addUser } from '../../packages/server/src/flows/add-user.ts';
import { ensureSigningKey } from '../../packages/server/src/flows/keep-keys.ts';
import { type House, openHouse } from '../../packages/server/src/house.ts';
import type { Server } from '../../packages/server/src/http/server.ts';
import { readSettings } from '../../packages/server/src/settings/read.ts';
import { folderFor } from './program.ts';

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
  const env = Object.fromEntries(
    Object.entries({ DATA_DIR: folderFor(t), DATABASE_URL: 'sqlite::memory:', ...settings }).map(([name, value]) => [
      `PORTCULLIS_${name}`,
      value,
    ]),
  );
  const reading = readSettings({ mode: 'dev', env, flags: {}, readFile: () => '' });
  if ('mistakes' in reading) throw new Error(reading.mistakes.join('\n'));
  const [issuer, masterSecret] = ['https://localhost', 'a secret of thirty-two bytes or more'];
  const opened = await openHouse({ settings: reading.settings, issuer, secrets: [masterSecret], clock: systemClock() });
  await ensureSigningKey(opened.services, 'EdDSA', masterSecret);
  await opened.services.keyRing.load();
  await addUser(opened.services, 'alice', PASSWORD);
  const house = more.house?.(opened) ?? opened;
  const { app } = await makeApp({
    settings: reading.settings,
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
