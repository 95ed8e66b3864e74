import { newSeal } from '../domain/key/key-material.ts';
import type { Secrets } from '../lib/seal.ts';
import { newId } from '../lib/id.ts';
import type { Services } from './services.ts';

/**
 * After the master secret was changed: seals under the current one what is sealed under a previous one. Beside another
 * process that does the same, or the reverse, each key has one seal or the other, and both open it.
 * @returns how many keys were sealed anew.
 */
export async function resealKeys(on: Pick<Services, 'clock' | 'together'>, secrets: Secrets): Promise<number> {
  if (secrets.length === 1) return 0;
  return on.together(async ({ keys, audit }) => {
    let count = 0;
    for (const key of await keys.list()) {
      const seal = newSeal(key, secrets);
      if (seal !== undefined && (await keys.reseal(key.kid, key.sealedPrivateJwk, seal)) === 'resealed') count += 1;
    }
    if (count > 0) await audit.add({ id: newId('audit'), at: on.clock.now(), action: 'keys_resealed', by: 'server', count });
    return count;
  });
}

/**
 * What an operator must know while the secret of before is set: until when some refresh token may need it. That is one
 * session's longest life after the last time that keys were sealed anew, which the audit knows.
 */
export async function previousSecretNote(on: Pick<Services, 'clock' | 'audit' | 'lifetimes'>, resealed: number): Promise<string> {
  const name = 'PORTCULLIS_MASTER_SECRET_PREVIOUS';
  const [last] = await on.audit.list({ limit: 1, action: 'keys_resealed' });
  const until = (last?.at ?? 0) + on.lifetimes.refreshTokenTtlMs;
  if (until <= on.clock.now())
    return `Nothing needs ${name}: take it out, unless another server is about to be started with it as its secret.`;
  const did =
    resealed === 0 ? '' : `${resealed} signing ${resealed === 1 ? 'key is' : 'keys are'} sealed under PORTCULLIS_MASTER_SECRET now. `;
  return `${did}Sessions of before still need ${name}: take it out after ${new Date(until).toISOString()}, when the last of them has been refreshed or has ended. Devices that have not logged in by then are strangers to password guessing's limits.`;
}
