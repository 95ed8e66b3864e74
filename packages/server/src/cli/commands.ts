import { audit } from './audit.ts';
import type { Command } from './command.ts';
import { health } from './health.ts';
import { keys } from './keys.ts';
import { routes } from './routes.ts';
import { server } from './server.ts';
import { sessions } from './sessions.ts';
import { settings } from './settings.ts';
import { store } from './store.ts';
import { storeCopy } from './store-copy.ts';
import { users } from './users.ts';

/** Everything that `portcullis` can be told, in the order of its help. */
export const commands: readonly Command[] = [...server, ...health, ...settings, ...routes, ...users, ...sessions, ...keys, ...audit, ...store, ...storeCopy];

/** The nouns that have verbs of their own. */
export const nouns: Readonly<Record<string, string>> = {
  users: 'Who may log in',
  sessions: 'Who is logged in',
  keys: 'What signs access tokens',
  audit: 'Who did what when',
  store: 'All that is kept',
};

/** Of every command. */
export const commonOptions = {
  json: 'Answer as JSON, for programs: one array or object on the standard output, times as ISO 8601.',
  dev: "The demo's settings and data folder, in place of those of \"serve\".",
} as const;

export const exitCodes: readonly (readonly [code: number, means: string])[] = [
  [0, 'Done.'],
  [1, 'Refused or failed; one line on the standard error says why.'],
  [2, 'The command line or the settings are wrong; a line for each mistake. Nothing was done.'],
];
