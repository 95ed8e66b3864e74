import type { Algorithm } from '@portcullis/guard';
import { importedKey, makeKey } from '../domain/key/key-material.ts';
import { keyState, PUBLISHED_BEFORE_USE_MS, type StoredKey } from '../domain/key/key.ts';
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
  const all = await on.keys.list();
  if (!all.some((key) => keyState(key, all, now) === 'active')) {
    const key = await makeKey(alg, masterSecret, { createdAt: now, activeFrom: now });
    return addKey(on, key, 'server', all.length === 0 ? 'if-none' : undefined);
  }
  const latest = all.toSorted((a, b) => b.activeFrom - a.activeFrom)[0];
  if (latest?.origin === 'made' && latest.alg !== alg) await rotateKey(on, alg, masterSecret, { by: 'server' });
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
  const signsAtOnce = at === 'once' || (await on.keys.list()).length === 0;
  return { createdAt, activeFrom: signsAtOnce ? createdAt : createdAt + PUBLISHED_BEFORE_USE_MS };
}

async function addKey(on: On, key: StoredKey, by: 'server' | 'operator', only?: 'if-none'): Promise<void> {
  const outcome = await on.together(async ({ keys, audit }) => {
    const added = await keys.add(key, only);
    if (added === 'added') {
      await audit.add({
        id: newId('audit'),
        at: key.createdAt,
        action: key.origin === 'made' ? 'key_made' : 'key_imported',
        by,
        reason: `${key.alg} ${key.kid}`,
        count: 1,
      });
    }
    return added;
  });
  if (outcome === 'present' && !only) throw new Problem('key_present');
}
