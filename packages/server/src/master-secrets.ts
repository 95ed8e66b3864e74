import { demoSecret, secretFile } from './demo.ts';
import { previousSecretNote, resealKeys } from './flows/reseal-keys.ts';
import type { Services } from './flows/services.ts';
import type { Secrets } from './lib/seal.ts';
import { Mistake } from './mistake.ts';
import type { Origins } from './settings/read.ts';
import type { Settings } from './settings/table.ts';

/** The master secret that counts, the one of before while it is being changed, and what a demo made for itself. */
export type MasterSecrets = {
  readonly secrets: Secrets;
  readonly made?: { readonly what: string; readonly where: string; readonly how: 'new' | 'kept' };
};

/** @throws {Mistake} where both are the same. */
export function masterSecrets(mode: 'dev' | 'serve', { dataDir, masterSecret, masterSecretPrevious: previous }: Settings): MasterSecrets {
  // Made under a secret of one's own too: it marks the folder as a demo's.
  const own = mode === 'dev' ? demoSecret(dataDir) : undefined;
  const current = masterSecret ?? own?.secret;
  if (current === undefined) throw new Error('serve without a secret'); // the settings demand one
  if (previous === current)
    throw new Mistake('PORTCULLIS_MASTER_SECRET_PREVIOUS: this is the current one: put the one of before here, or leave it out');
  return {
    secrets: previous === undefined ? [current] : [current, previous],
    ...(own && masterSecret === undefined && { made: { what: 'master secret', where: own.file, how: own.how } }),
  };
}

/**
 * Opens the keys of the store, and seals under the current secret what is still sealed under the one of before.
 * @returns what the operator should know of it.
 * @throws {Mistake} where no secret opens them.
 */
export async function openKeys(
  services: Services,
  secrets: Secrets,
  from: { readonly mode: 'dev' | 'serve'; readonly settings: Settings; readonly origins: Origins },
): Promise<string[]> {
  await services.keyRing.load().catch((error: Error) => {
    const others =
      secrets.length > 1
        ? ', and neither is PORTCULLIS_MASTER_SECRET_PREVIOUS'
        : '; if it was changed, PORTCULLIS_MASTER_SECRET_PREVIOUS_FILE names the one of before';
    const own = from.mode === 'dev' && from.settings.masterSecret !== undefined ? '; leave it out, and dev uses its own' : '';
    throw new Mistake(`${secretOrigin(from)}: ${error.message}${others}${own}`);
  });
  const resealed = await resealKeys(services, secrets);
  return secrets.length > 1 ? [await previousSecretNote(services, resealed)] : [];
}

/** Which secret it is that does not fit, and where it came from. */
function secretOrigin({ origins: { masterSecret: origin }, settings }: { origins: Origins; settings: Settings }): string {
  return origin === undefined
    ? `the secret in ${secretFile(settings.dataDir)}`
    : `PORTCULLIS_MASTER_SECRET${origin === 'environment file' ? '_FILE (environment)' : ` (${origin})`}`;
}
