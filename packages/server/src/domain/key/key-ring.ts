import type { Clock, VerificationKey, VerificationKeys } from '@portcullis/guard';
import type { CryptoKey, JWK } from 'jose';
import { importJWK } from 'jose/key/import';
import type { Secrets } from '../../lib/seal.ts';
import { openPrivateJwk } from './key-material.ts';
import { isBelieved, type Keys, type KeyState, keyState, LONGEST_ACCESS_TOKEN_MS, retirementOf, type StoredKey } from './key.ts';

/** The keys of the store, opened and at hand. */
export interface KeyRing extends VerificationKeys {
  /** The one that signs now. @throws {Error} when there is none: the server makes one before it listens. */
  active(): { readonly kid: string; readonly alg: string; readonly key: CryptoKey | Uint8Array };
  /** What verifiers elsewhere may know (RFC 7517): next, active and retired keys; never a shared secret. */
  jwks(): { keys: JWK[] };
  /** How many keys there are of each state. */
  states(): Readonly<Record<KeyState, number>>;
  /** Which version of the keys these are, at least: what changed up to then has been taken up. */
  version(): number;
  /** Reads the store anew. @throws {Error} when none of the master secrets opens a key. */
  load(): Promise<void>;
}

type OpenKey = { readonly stored: StoredKey; readonly verify: VerificationKey; readonly sign: CryptoKey | Uint8Array };

export function keyRing(on: { keys: Pick<Keys, 'list' | 'version'>; clock: Clock; secrets: Secrets }): KeyRing {
  let all: readonly StoredKey[] = [];
  let open: ReadonlyMap<string, OpenKey> = new Map();
  /** What tokens are verified with, and until when. */
  let known: ReadonlyMap<string, { readonly key: VerificationKey; readonly until: number }> = new Map();
  let begun = 0;
  let taken = 0;
  let version = 0;

  async function opened(stored: StoredKey): Promise<OpenKey> {
    const before = open.get(stored.kid);
    if (before) return before;
    const privateJwk = openPrivateJwk(stored, ...on.secrets);
    if (!privateJwk)
      throw new Error(`the master secret does not open the key ${stored.kid}: it is not the one that this store was made with`);
    const sign = await importJWK(privateJwk, stored.alg);
    const key = stored.publicJwk === undefined ? sign : await importJWK(JSON.parse(stored.publicJwk), stored.alg);
    return { stored, sign, verify: { kid: stored.kid, alg: stored.alg, key } };
  }

  const stateOf = (stored: StoredKey): KeyState => keyState(stored, all, on.clock.now());

  return {
    find(kid) {
      const found = known.get(kid);
      return found && (found.until === Infinity || on.clock.now() < found.until) ? found.key : undefined;
    },
    active() {
      for (const { stored, sign } of open.values())
        if (stateOf(stored) === 'active') return { kid: stored.kid, alg: stored.alg, key: sign };
      throw new Error('the store has no active key');
    },
    jwks: () => ({
      keys: [...open.values()].flatMap(({ stored }) =>
        stateOf(stored) === 'gone' || stored.publicJwk === undefined ? [] : [JSON.parse(stored.publicJwk) as JWK],
      ),
    }),
    states() {
      const counts = { next: 0, active: 0, retired: 0, gone: 0, compromised: 0 };
      for (const stored of all) counts[stateOf(stored)] += 1;
      return counts;
    },
    version: () => version,
    async load() {
      const mine = (begun += 1);
      const atLeast = await on.keys.version(); // before they are read: what changes in between is in them, and said to be later
      const stored = await on.keys.list();
      const believed = await Promise.all(stored.filter(isBelieved).map(opened));
      if (mine < taken) return; // one that began later knows more: a key that it found compromised must not come back
      taken = mine;
      version = atLeast;
      all = stored;
      open = new Map(believed.map((key) => [key.stored.kid, key]));
      known = new Map([
        ...believed.map(({ stored, verify }) => entry(verify, retirementOf(stored, all) + LONGEST_ACCESS_TOKEN_MS)),
        ...all.filter((key) => !isBelieved(key)).map(({ kid, alg }) => entry({ kid, alg, key: 'compromised' }, Infinity)),
      ]);
    },
  };
}

const entry = (key: VerificationKey, until: number) => [key.kid, { key, until }] as const;
