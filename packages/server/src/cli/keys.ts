import { text } from 'node:stream/consumers';
import { signingAlgorithms } from '@portcullis/guard';
import type { Desk } from '../desk.ts';
import type { StoredKey } from '../domain/key/key.ts';
import type { Secrets } from '../lib/seal.ts';
import { Mistake } from '../mistake.ts';
import { confirm } from './ask.ts';
import { command, type On } from './command.ts';
import { type Column, localTime } from './print.ts';

type ShownKey = { kid: string; alg: string; state: string; origin: string; createdAt: number; activeFrom: number; rotatesAt: number | undefined; compromisedAt: number | undefined };

const keyColumns: readonly Column<ShownKey>[] = [
  { key: 'kid' },
  { key: 'alg' },
  { key: 'state', style: ({ state }) => ({ next: 'cyan', active: 'green', retired: 'yellow', compromised: 'red' } as const)[state] ?? 'dim' },
  { key: 'origin', from: 90 },
  { key: 'createdAt', as: 'time', from: 111 },
  { key: 'activeFrom', title: 'signs from', as: 'time' },
  { key: 'rotatesAt', title: 'gives way', as: 'time', from: 137 },
  { key: 'compromisedAt', as: 'time', hidden: true },
];

type ShownCompromise = { kid: string; alg: string; state: string; compromisedAt: number; replacedBy: string | undefined };

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
    about: [
      'next: published, not signing yet. active: signs. retired: signs no more, and verifies what it has signed. gone: its last token is dead; it is deleted soon. compromised: its tokens are refused; all that is left of it is its name.',
      'When the active key gives way is worked out with PORTCULLIS_KEY_ROTATION as it is set here; the server goes by its own. A key that was imported never gives way by itself: it has no such time.',
    ],
    examples: [['keys list', 'in the order in which they sign']],
    columns: keyColumns,
    none: 'There are no keys yet: the server makes the first one when it starts.',
    async does(on) {
      const { services } = await on.desk();
      const all = await shown(on, await services.keys.list());
      if (all.some(({ state, origin }) => state === 'active' && origin === 'imported') && !all.some(({ state }) => state === 'next'))
        on.note('The key that signs was imported, so it never gives way by itself: import the next one, or "portcullis keys rotate" makes one.');
      return all;
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
      const latest = (await desk.services.keys.list()).findLast(({ alg, compromisedAt }) => alg !== 'HS256' && compromisedAt === undefined);
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
      'Ed25519, P-256, RSA of 2048 to 8192 bits (RS256, or PS256 where a JWK says so in its "alg"); or a shared secret of at least 32 bytes as a JWK ("kty": "oct"), for verifiers that share it: HS256, never published.',
      oldOneStays,
      olderOne,
      'It signs until you bring the next one: the schedule (PORTCULLIS_KEY_ROTATION) leaves keys alone that were not made here.',
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

  command({
    name: 'keys compromise',
    modes: ['admin', 'dev'],
    settings: 'store',
    args: { kid: { says: 'The key, as "keys list" shows it. One that begins with a dash comes last, behind "--".' } },
    options: { reason: { takes: 'TEXT', says: 'Why, for the audit.' }, yes: { says: 'Do not ask.' } },
    summary: 'Declare that somebody else may have a key: its tokens die at once, and nobody is logged out',
    about: [
      'A running server refuses its access tokens from the next request on (401, code token_key_gone); clients get new ones with their refresh tokens. It is no longer published, its private half is erased, and it can never be imported again: it cannot be undone.',
      'Where it was the one that signs, a new key of its kind takes its place in the same moment, or one of PORTCULLIS_SIGNING_ALG in the place of a shared secret, and this needs PORTCULLIS_MASTER_SECRET, the one that the server has.',
      'It is asked for once more on a terminal; elsewhere --yes must be said. Services of your own that verify tokens believe the key until they have fetched the JWK set anew, after five minutes at most: restart them, if that is too long.',
    ],
    examples: [['keys compromise KID --reason "laptop stolen"', 'asks first'], ['keys compromise --yes --json -- KID', 'for a program, whatever it begins with']],
    columns: [{ key: 'kid' }, { key: 'alg' }, { key: 'state' }, { key: 'compromisedAt', as: 'time' }, { key: 'replacedBy' }],
    says: ({ kid, replacedBy }: ShownCompromise) => `The key ${kid} is compromised: its tokens are refused.${replacedBy === undefined ? '' : ` The key ${replacedBy} signs in its place from now on.`}`,
    async does(on, given) {
      const { compromiseKey } = await import('../flows/compromise-key.ts');
      const { keyState } = await import('../domain/key/key.ts');
      const { Problem } = await import('../domain/problem.ts');
      const desk = await on.desk();
      const all = await desk.services.keys.list();
      const key = all.find(({ kid }) => kid === given.kid);
      if (!key) throw new Problem('key_unknown');
      if (key.compromisedAt !== undefined) on.note(`It was declared so before, at ${localTime(key.compromisedAt)}: nothing was changed.`);
      else if (!given.yes) await confirm(on, `Refuse every token of the ${keyState(key, all, on.clock.now())} key ${key.kid} (${key.alg}), for good?`);
      const { alg, kid, compromisedAt, replacedBy } = await compromiseKey(desk.services, given.kid, {
        reason: given.reason,
        alg: on.settings().signingAlg,
        masterSecret: () => openSecret(on, desk),
      });
      desk.store.checkpoint();
      return { kid, alg, state: 'compromised', compromisedAt, replacedBy: replacedBy?.kid };
    },
  }),
];

/**
 * The master secret, once it has opened the keys that are there: one sealed under another would keep the server from starting.
 * While it is being changed, the one that the latest key is sealed under: that one the server has, whether it was started anew or not.
 */
export async function openSecret(on: On, { services }: Desk, why = 'keys are sealed under it'): Promise<string> {
  const { keyRing } = await import('../domain/key/key-ring.ts');
  const { findDemoSecret } = await import('../demo.ts');
  const settings = on.settings();
  const { sealedUnder } = await import('../domain/key/key-material.ts');
  const secret = settings.masterSecret ?? (on.sources.mode === 'dev' ? findDemoSecret(settings.dataDir) : undefined);
  if (secret === undefined) throw new Mistake(`PORTCULLIS_MASTER_SECRET (not set): ${why}, so this needs the one that the server has; or PORTCULLIS_MASTER_SECRET_FILE`);
  const secrets: Secrets = settings.masterSecretPrevious === undefined ? [secret] : [secret, settings.masterSecretPrevious];
  await keyRing({ keys: services.keys, clock: on.clock, secrets }).load().catch((error: Error) => {
    throw new Mistake(`${settings.masterSecret === undefined ? "the demo's secret" : `PORTCULLIS_MASTER_SECRET${on.sources.env['PORTCULLIS_MASTER_SECRET_FILE'] === undefined ? '' : '_FILE'}`}: ${error.message}`);
  });
  const latest = (await services.keys.list()).findLast(({ compromisedAt }) => compromisedAt === undefined);
  return (latest && sealedUnder(latest, secrets)) ?? secret;
}

async function shown(on: Pick<On, 'clock' | 'settings'>, all: readonly StoredKey[]): Promise<ShownKey[]> {
  const { keyState, retirementOf } = await import('../domain/key/key.ts');
  const { rotationDue } = await import('../domain/key/rotation.ts');
  const now = on.clock.now();
  return all.map((key) => {
    const { kid, alg, origin, createdAt, compromisedAt } = key;
    const state = keyState(key, all, now);
    const successorAt = retirementOf(key, all);
    const rotatesAt = state !== 'active' ? undefined : successorAt < Infinity ? successorAt : rotationDue(all, now, on.settings().keyRotationMs);
    // A key that took the place of a compromised one has the other's time, and signed no earlier than it was made.
    return { kid, alg, state, origin, createdAt, activeFrom: Math.max(key.activeFrom, createdAt), rotatesAt, compromisedAt };
  });
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
