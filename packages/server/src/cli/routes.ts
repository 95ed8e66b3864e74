import { type GuardedRoute, systemClock } from '@portcullis/guard';
import { createServer } from '../lib/node-http.ts';
import { randomBytes } from '../lib/secret.ts';
import type { Settings } from '../settings/table.ts';
import { command } from './command.ts';
import type { Column } from './print.ts';

type ShownRoute = { method: string; path: string; access: string; limits: string; summary: string };

const routeColumns: readonly Column<ShownRoute>[] = [{ key: 'method' }, { key: 'path' }, { key: 'access', cut: true }, { key: 'limits', cut: true }, { key: 'summary', cut: true, from: 110 }];

export const routes = [
  command({
    name: 'routes',
    modes: ['admin', 'dev'],
    settings: 'all',
    summary: 'Show every route, who may call it and how often',
    about: ['As the gates have them, with these settings; nothing is opened and nothing listens.'],
    examples: [['routes', 'for people'], ['routes --login-limits "10 per minute" --json', 'for a program']],
    columns: routeColumns,
    does: async (on) => (await guardedRoutes(on.settings())).map(shown),
  }),
];

const shown = ({ method, path, access, limits, summary }: GuardedRoute): ShownRoute => ({ method, path, access, limits: limits.join('; '), summary });

/** Puts the whole app together, on a store in memory and without a listener, and asks it. */
export async function guardedRoutes(settings: Settings): Promise<readonly GuardedRoute[]> {
  const { makeApp } = await import('../app.ts');
  const { openHouse } = await import('../house.ts');
  const issuer = settings.issuer ?? 'https://localhost';
  const nowhere = { ...settings, dataDir: '.', database: { engine: 'sqlite', file: ':memory:' }, logFile: 'stdout' } as const;
  const house = await openHouse({ settings: nowhere, issuer, secrets: [randomBytes(32).toString('base64')], clock: systemClock() });
  try {
    const { app } = await makeApp({ settings: nowhere, issuer, house, readiness: () => Promise.resolve(undefined), serverFactory: (handler) => createServer(handler) });
    const found = app.guardedRoutes.toSorted((a, b) => order(a).localeCompare(order(b), 'en'));
    await app.close();
    return found;
  } finally {
    await house.close();
  }
}

const order = ({ path, method }: GuardedRoute): string => `${path} ${method}`;
