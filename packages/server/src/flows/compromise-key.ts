import { signingAlgorithms, type Algorithm } from '@portcullis/guard';
import { plainText } from '../domain/audit/audit.ts';
import { makeKey } from '../domain/key/key-material.ts';
import { isBelieved, keyState, type StoredKey } from '../domain/key/key.ts';
import { Problem } from '../domain/problem.ts';
import { newId } from '../lib/id.ts';
import { keyAdded } from './keep-keys.ts';
import type { Services } from './services.ts';

export type Compromise = {
  readonly kid: string;
  readonly alg: Algorithm;
  readonly compromisedAt: number;
  /** The key that signs in its place from now on, where it was the one that signed. */
  readonly replacedBy: StoredKey | undefined;
};

/**
 * Somebody else may have a key: its tokens are refused from now on, its private half is erased, and where it was the one
 * that signed, a new one takes its place in the same commit. Sessions live on: their next refresh gives a token of the
 * new key. Done before, it stays as it is.
 * @param how.alg of the new key where the old one is a shared secret, which is never made here.
 * @param how.masterSecret asked for only where a new key is needed.
 * @throws {Problem} `key_unknown`; `revocation_pending` where it is done, and not every instance has heard of it
 */
export async function compromiseKey(
  on: Pick<Services, 'clock' | 'keys' | 'together' | 'revoked'>,
  kid: string,
  how: { reason?: string | undefined; alg: Algorithm; masterSecret: () => Promise<string> },
): Promise<Compromise> {
  const all = await on.keys.list();
  const key = all.find((one) => one.kid === kid);
  if (!key) throw new Problem('key_unknown');
  if (key.compromisedAt !== undefined) {
    await on.revoked.keysChanged(); // not everybody may have heard of it yet
    return done(key, key.compromisedAt);
  }

  const at = on.clock.now();
  const replacement = needsReplacement(key, all, at) ? await replacementOf(key) : undefined;
  const outcome = await on.together(async ({ keys, audit }) => {
    const outcome = await keys.compromise(kid, at);
    if (outcome !== 'compromised') return outcome;
    await audit.add({
      id: newId('audit'),
      at,
      action: 'key_compromised',
      by: 'operator',
      reason: `${key.alg} ${kid}${how.reason === undefined ? '' : `: ${plainText(how.reason, 200)}`}`,
      count: 1,
    });
    if (!replacement) return outcome;
    await keys.add(replacement);
    await audit.add(keyAdded(replacement, 'operator'));
    return outcome;
  });
  if (outcome === 'unknown') throw new Problem('key_unknown'); // gone with its last token meanwhile
  if (outcome === 'already') return compromiseKey(on, kid, how);
  await on.revoked.keysChanged();
  return done(key, at, replacement);

  /** It signs from when the old one did, so that there is no moment, on nobody's clock, in which no key signs. */
  async function replacementOf({ alg, activeFrom }: StoredKey): Promise<StoredKey> {
    const sameKind = signingAlgorithms.find((known) => known === alg) ?? how.alg;
    return makeKey(sameKind, await how.masterSecret(), { createdAt: at, activeFrom });
  }
}

const done = ({ kid, alg }: StoredKey, compromisedAt: number, replacedBy?: StoredKey): Compromise => ({
  kid,
  alg,
  compromisedAt,
  replacedBy,
});

/** Where it signs, or nothing else does. A next key is not replaced: the active one goes on, and the schedule makes another. */
function needsReplacement(key: StoredKey, all: readonly StoredKey[], at: number): boolean {
  const others = all.filter((one) => one !== key && isBelieved(one));
  return keyState(key, all, at) === 'active' || !others.some((one) => keyState(one, others, at) === 'active');
}
