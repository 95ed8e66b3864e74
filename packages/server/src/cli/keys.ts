import { text } from 'node:stream/consumers';
import { signingAlgorithms } from '@portcullis/guard';
import type { Desk } from '../desk.ts';
import type { StoredKey } from '../domain/key/key.ts';
import { Mistake } from '../mistake.ts';
import { command, type On } from './command.ts';
import { type Column, localTime } from './print.ts';

type ShownKey = { kid: string; alg: string; state: string; origin: string; createdAt: number; activeFrom: number };

const keyColumns: readonly Column<ShownKey>[] = [
  { key: 'kid' },
  { key: 'alg' },
  { key: 'state', style: ({ state }) => ({ next: 'cyan', active: 'green', retired: 'yellow' } as const)[state] ?? 'dim' },
  { key: 'origin', from: 90 },
  { key: 'createdAt', as: 'time', from: 111 },
  { key: 'activeFrom', title: 'signs from', as: 'time' },
];

const now = { says: 'Let it sign at once, and not only after the ten minutes in which verifiers elsewhere learn of it.' } as const;
const secretIsNeeded = 'Keys are sealed under the master secret, so this needs PORTCULLIS_MASTER_SECRET (or PORTCULLIS_MASTER_SECRET_FILE), the one that the server has.';
const oldOneStays = 'The key of before verifies its tokens until the last of them is dead, so nobody is logged out. A running server takes up the new key within a second.';
const olderOne = 'With --now, a key that is next already still takes over from this one when its own ten minutes are up.';
const signs = ({ kid, alg, state }: ShownKey, made: string): string => `${made} the key ${kid} (${alg}); it signs ${state === 'next' ? 'in ten minutes' : 'from now on'}.`;

export const keys = [
  command({
    name: 'keys list',
    modes: ['admin', 'dev'],
    settings: 'store',
    summary: 'List the keys that sign access tokens',
    about: ['next: published, not signing yet. active: signs. retired: signs no more, and verifies what it has signed. gone: its last token is dead; it is deleted soon.'],
    examples: [['keys list', 'in the order in which they sign']],
    columns: keyColumns,
    none: 'There are no keys yet: the server makes the first one when it starts.',
    async does(on) {
      const { services } = await on.desk();
      return shown(on, await services.keys.list());
    },
  }),

  command({
    name: 'keys rotate',
    modes: ['admin', 'dev'],
    settings: 'store',
    options: { now, alg: { takes: 'ALG', oneOf: signingAlgorithms, says: 'How it signs; as the latest key, unless told otherwise.' } },
    summary: 'Make the next key',
    about: [oldOneStays, olderOne, secretIsNeeded, 'With another --alg, set PORTCULLIS_SIGNING_ALG of the server too: at its next start it makes a key of that kind, should the latest be of another.'],
    examples: [['keys rotate', 'signs in ten minutes'], ['keys rotate --now', 'signs at once'], ['keys rotate --alg ES256', 'of another kind']],
    columns: keyColumns,
    says: (key) => signs(key, 'Made'),
    async does(on, given) {
      const { rotateKey } = await import('../flows/keep-keys.ts');
      const desk = await on.desk();
      const secret = await openSecret(on, desk);
      const latest = (await desk.services.keys.list()).findLast(({ alg }) => alg !== 'HS256');
      const alg = signingAlgorithms.find((known) => known === (given.alg ?? latest?.alg)) ?? on.settings().signingAlg;
      const key = await rotateKey(desk.services, alg, secret, { by: 'operator', ...(given.now && { at: 'once' }) });
      return shownOne(on, desk, key);
    },
  }),

  command({
    name: 'keys import',
    modes: ['admin', 'dev'],
    settings: 'store',
    args: { file: { says: 'A private key as PEM or JWK; "-" is the standard input.' } },
    options: { now },
    summary: 'Bring a key of your own',
    about: [
      'Ed25519, P-256, RSA of at least 2048 bits; or a shared secret of at least 32 bytes as a JWK ("kty": "oct"), for verifiers that share it: HS256, never published.',
      oldOneStays,
      olderOne,
      secretIsNeeded,
    ],
    examples: [['keys import key.pem', 'signs in ten minutes'], ['keys import - --now < key.jwk', 'signs at once']],
    columns: keyColumns,
    says: (key) => signs(key, 'Imported'),
    async does(on, given) {
      const { importKey } = await import('../flows/keep-keys.ts');
      const { readText } = await import('../lib/files.ts');
      const material = given.file === '-' ? await text(process.stdin) : readText(given.file);
      const desk = await on.desk();
      const secret = await openSecret(on, desk);
      const key = await importKey(desk.services, material, secret, given.now ? { at: 'once' } : {});
      return shownOne(on, desk, key);
    },
  }),
];

/** The master secret, once it has opened the keys that are there: one sealed under another would keep the server from starting. */
export async function openSecret(on: On, { services }: Desk): Promise<string> {
  const { keyRing } = await import('../domain/key/key-ring.ts');
  const { findDemoSecret } = await import('../demo.ts');
  const settings = on.settings();
  const secret = settings.masterSecret ?? (on.sources.mode === 'dev' ? findDemoSecret(settings.dataDir) : undefined);
  if (secret === undefined) throw new Mistake('PORTCULLIS_MASTER_SECRET (not set): keys are sealed under it, so this needs the one that the server has; or PORTCULLIS_MASTER_SECRET_FILE');
  await keyRing({ keys: services.keys, clock: on.clock, masterSecret: secret }).load().catch((error: Error) => {
    throw new Mistake(`${settings.masterSecret === undefined ? "the demo's secret" : 'PORTCULLIS_MASTER_SECRET'}: ${error.message}`);
  });
  return secret;
}

async function shown(on: Pick<On, 'clock'>, all: readonly StoredKey[]): Promise<ShownKey[]> {
  const { keyState } = await import('../domain/key/key.ts');
  return all.map((key) => ({ kid: key.kid, alg: key.alg, state: keyState(key, all, on.clock.now()), origin: key.origin, createdAt: key.createdAt, activeFrom: key.activeFrom }));
}

/** A key that was just added; beside it, what will take over from it unasked. */
async function shownOne(on: On, { services }: Desk, { kid }: StoredKey): Promise<ShownKey> {
  const all = await shown(on, await services.keys.list());
  const key = all.find((one) => one.kid === kid);
  if (!key) throw new Error('the key is gone again');
  for (const { kid: later, activeFrom } of all.filter((one) => key.state === 'active' && one.state === 'next'))
    on.note(`Only until ${localTime(activeFrom)}: the key ${later}, which was next already, signs from then on.`);
  return key;
}
