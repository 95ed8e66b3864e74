import type { Clock, VerificationKey, VerificationKeys } from '@portcullis/guard';
import { type CryptoKey, importJWK, type JWK } from 'jose';
import { openPrivateJwk } from './key-material.ts';
import { type Keys, type KeyState, keyState, type StoredKey } from './key.ts';

type OpenKey = { readonly stored: StoredKey; readonly verify: VerificationKey; readonly sign: CryptoKey | Uint8Array };

/** The keys of the store, opened and at hand. */
export interface KeyRing extends VerificationKeys {
  /** The one that signs now. @throws {Error} when there is none: the server makes one before it listens. */
  active(): { readonly kid: string; readonly alg: string; readonly key: CryptoKey | Uint8Array };
  /** What verifiers elsewhere may know (RFC 7517): next, active and retired keys; never a shared secret. */
  jwks(): { keys: JWK[] };
  /** How many are in each state. */
  states(): Record<KeyState, number>;
  /** Reads the store anew. @throws {Error} when the master secret does not open a key. */
  load(): Promise<void>;
}

export function keyRing(on: { keys: Pick<Keys, 'list'>; clock: Clock; masterSecret: string }): KeyRing {
  let ring = new Map<string, OpenKey>();
  let all: StoredKey[] = [];

  async function open(stored: StoredKey): Promise<OpenKey> {
    const known = ring.get(stored.kid);
    if (known) return known;
    const privateJwk = openPrivateJwk(stored, on.masterSecret);
    if (!privateJwk)
      throw new Error(`the master secret does not open the key ${stored.kid}: it is not the one that this store was made with`);
    const sign = await importJWK(privateJwk, stored.alg);
    const key = stored.publicJwk === undefined ? sign : await importJWK(JSON.parse(stored.publicJwk), stored.alg);
    return { stored, sign, verify: { kid: stored.kid, alg: stored.alg, key } };
  }

  const stateOf = ({ stored }: OpenKey) => keyState(stored, all, on.clock.now());

  return {
    find(kid) {
      const key = ring.get(kid);
      return key && (all.length === 1 || stateOf(key) !== 'gone') ? key.verify : undefined;
    },
    active() {
      for (const key of ring.values()) if (stateOf(key) === 'active') return { kid: key.stored.kid, alg: key.stored.alg, key: key.sign };
      throw new Error('the store has no active key');
    },
    jwks: () => ({
      keys: [...ring.values()].flatMap((key) =>
        stateOf(key) === 'gone' || key.stored.publicJwk === undefined ? [] : [JSON.parse(key.stored.publicJwk) as JWK],
      ),
    }),
    states() {
      const counts = { next: 0, active: 0, retired: 0, gone: 0 };
      for (const key of ring.values()) counts[stateOf(key)] += 1;
      return counts;
    },
    async load() {
      const stored = await on.keys.list();
      const opened = await Promise.all(stored.map(open));
      all = stored;
      ring = new Map(opened.map((key) => [key.stored.kid, key]));
    },
  };
}
