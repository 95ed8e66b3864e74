import type { Algorithm } from '@portcullis/guard';
import type { AuditEntry } from '../domain/audit/audit.ts';
import { importedKey, makeKey } from '../domain/key/key-material.ts';
import { ALWAYS, isBelieved, keyState, PUBLISHED_BEFORE_USE_MS, type Span, type StoredKey } from '../domain/key/key.ts';
import { rotationNow } from '../domain/key/rotation.ts';
import { Problem } from '../domain/problem.ts';
import { newId } from '../lib/id.ts';
import type { Services } from './services.ts';

type On = Pick<Services, 'clock' | 'keys' | 'together'>;

/**
 * Makes a key where none signs: in a new store, or in one whose keys are of a time yet to come, because a clock was wrong.
 * Where the setting names another algorithm than our own latest key has, makes the next one.
 */
export async function ensureSigningKey(on: On, alg: Algorithm, masterSecret: string): Promise<void> {
  const now = on.clock.now();
  const all = (await on.keys.list()).filter(isBelieved);
  if (!all.some((key) => keyState(key, all, now) === 'active')) {
    const key = await makeKey(alg, masterSecret, { createdAt: now, activeFrom: now });
    return addKey(on, key, 'server', all.length === 0 ? ALWAYS : { ...ALWAYS, until: now });
  }
  const latest = all.at(-1);
  if (latest?.origin !== 'made' || latest.alg === alg) return;
  const key = await makeKey(alg, masterSecret, { createdAt: now, activeFrom: now + PUBLISHED_BEFORE_USE_MS });
  await addKey(on, key, 'server', { ...ALWAYS, after: latest.activeFrom });
}

/** Makes the next key when its time has come, by the schedule: one, however many look at once. @param everyMs `undefined`: never. */
export async function rotateWhenDue(on: On, alg: Algorithm, masterSecret: string, everyMs: number | undefined): Promise<void> {
  const createdAt = on.clock.now();
  const rotation = rotationNow(await on.keys.list(), createdAt, everyMs);
  if (!rotation) return;
  const key = await makeKey(alg, masterSecret, { createdAt, activeFrom: rotation.activeFrom });
  await addKey(on, key, 'server', rotation.unless);
}

/** The next key; it is published at once and signs ten minutes later, or `at: 'once'`. */
export async function rotateKey(
  on: On,
  alg: Algorithm,
  masterSecret: string,
  how: { by: 'server' | 'operator'; at?: 'once' },
): Promise<StoredKey> {
  const key = await makeKey(alg, masterSecret, await times(on, how.at));
  await addKey(on, key, how.by);
  return key;
}

/** A key that an operator brings. @throws {Problem} `key_unusable`, `key_present` */
export async function importKey(on: On, text: string, masterSecret: string, how: { at?: 'once' | undefined } = {}): Promise<StoredKey> {
  const key = await importedKey(text, masterSecret, await times(on, how.at));
  await addKey(on, key, 'operator');
  return key;
}

/** Deletes keys whose last token is dead. */
export async function removeGoneKeys(on: On): Promise<void> {
  const all = await on.keys.list();
  for (const key of all) if (keyState(key, all, on.clock.now()) === 'gone') await on.keys.remove(key.kid);
}

async function times(on: Pick<On, 'clock' | 'keys'>, at: 'once' | undefined): Promise<{ createdAt: number; activeFrom: number }> {
  const createdAt = on.clock.now();
  // The first key of a store waits for nothing: until it signs, nothing does.
  const signsAtOnce = at === 'once' || !(await on.keys.list()).some(isBelieved);
  return { createdAt, activeFrom: signsAtOnce ? createdAt : createdAt + PUBLISHED_BEFORE_USE_MS };
}

/** @throws {Problem} `key_present`, where it is not only to be added `unless` there is another. */
async function addKey(on: On, key: StoredKey, by: 'server' | 'operator', unless?: Span): Promise<void> {
  const present = await on.together(async ({ keys, audit }) => {
    if ((await keys.add(key, unless)) === 'present') return (await keys.list()).find(({ kid }) => kid === key.kid);
    await audit.add(keyAdded(key, by));
    return undefined;
  });
  if (!present || unless) return;
  if (isBelieved(present)) throw new Problem('key_present');
  throw new Problem('key_present', 'compromised', {
    detail: 'This key was declared compromised, and nothing makes it believed again. Bring another.',
  });
}

/** The entry for a key that was made or imported. */
export const keyAdded = (key: StoredKey, by: AuditEntry['by']): AuditEntry => ({
  id: newId('audit'),
  at: key.createdAt,
  action: key.origin === 'made' ? 'key_made' : 'key_imported',
  by,
  reason: `${key.alg} ${key.kid}`,
  count: 1,
});
