import type { Algorithm } from '@portcullis/guard';

/** A key that signs access tokens, as the store has it. */
export type StoredKey = {
  readonly kid: string;
  readonly alg: Algorithm;
  readonly origin: 'made' | 'imported';
  readonly createdAt: number;
  /** It signs from here on, until a later key does. Before, it is only published. */
  readonly activeFrom: number;
  /** JWK as JSON; nothing for a shared secret. */
  readonly publicJwk: string | undefined;
  /** The private JWK, sealed under the master secret. */
  readonly sealedPrivateJwk: string;
};

export interface Keys {
  /** `present` when there is a key with this kid, or, with `if-none`, any key at all. */
  add(key: StoredKey, only?: 'if-none'): Promise<'added' | 'present'>;
  list(): Promise<StoredKey[]>;
  remove(kid: string): Promise<void>;
}

export type KeyState = 'next' | 'active' | 'retired' | 'gone';

/** The longest that any access token may live (the bound of ACCESS_TOKEN_TTL): so long a retired key still verifies. */
export const LONGEST_ACCESS_TOKEN_MS = 86_400_000;
/** How long a key is published before it signs: longer than verifiers may keep the JWK set (its `max-age`). */
export const PUBLISHED_BEFORE_USE_MS = 600_000;

/**
 * A key's state follows from the times alone, so nothing has to be switched at the right moment and no restart can miss
 * it: of all keys whose time has come the latest is active, the ones before it are retired until their last token is dead.
 */
export function keyState(key: StoredKey, all: readonly StoredKey[], now: number): KeyState {
  if (key.activeFrom > now) return 'next';
  const successors = all.filter((other) => isLater(other, key) && other.activeFrom <= now);
  if (successors.length === 0) return 'active';
  const retiredAt = Math.min(...successors.map(({ activeFrom }) => activeFrom));
  return now < retiredAt + LONGEST_ACCESS_TOKEN_MS ? 'retired' : 'gone';
}

const isLater = (a: StoredKey, b: StoredKey): boolean => a.activeFrom > b.activeFrom || (a.activeFrom === b.activeFrom && a.kid > b.kid);
