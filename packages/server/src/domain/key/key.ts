import type { Algorithm } from '@portcullis/guard';

/** A key that signs access tokens, as the store has it. */
export type StoredKey = {
  readonly kid: string;
  readonly alg: Algorithm;
  readonly origin: 'made' | 'imported';
  readonly createdAt: number;
  /** It signs from here on, until a later key does. Before, it is only published. */
  readonly activeFrom: number;
  /** JWK as JSON; nothing for a shared secret, or once the key is compromised. */
  readonly publicJwk: string | undefined;
  /** The private JWK, sealed under the master secret; empty once the key is compromised. */
  readonly sealedPrivateJwk: string;
  /** From then on nothing that it signed is believed. What is left of it is this row, for good. */
  readonly compromisedAt: number | undefined;
};

/** A stretch of time: from behind `after` up to `until`. */
export type Span = { readonly after: number; readonly until: number };

export interface Keys {
  /**
   * `present` when there is a key with this kid, or one that begins to sign within `unless`: one statement, so that of
   * many who find a key missing one makes it. A compromised key keeps its kid taken, and counts for no span.
   */
  add(key: StoredKey, unless?: Span): Promise<'added' | 'present'>;
  /** In the order in which they sign. */
  list(): Promise<StoredKey[]>;
  /** Grows with each change of a key, and only then. */
  version(): Promise<number>;
  /** Takes the key away; a compromised one stays. */
  remove(kid: string): Promise<void>;
  /** Marks the key and erases its material, private and public. Only the first time counts. */
  compromise(kid: string, at: number): Promise<'compromised' | 'already' | 'unknown'>;
  /** Puts one seal in the place of another, if that is still there. */
  reseal(kid: string, from: string, to: string): Promise<'resealed' | 'changed'>;
}

export type KeyState = 'next' | 'active' | 'retired' | 'gone' | 'compromised';

/** The longest that any access token may live (the bound of ACCESS_TOKEN_TTL): so long a retired key still verifies. */
export const LONGEST_ACCESS_TOKEN_MS = 86_400_000;
/** How long a key is published before it signs: longer than verifiers may keep the JWK set (its `max-age`). */
export const PUBLISHED_BEFORE_USE_MS = 600_000;

/** All of time. */
export const ALWAYS: Span = { after: -1, until: Number.MAX_SAFE_INTEGER };

/**
 * A key's state follows from the times alone, so nothing has to be switched at the right moment and no restart can miss
 * it: of all keys whose time has come the latest is active, the ones before it are retired until their last token is
 * dead. A compromised key is as if it had never been there.
 */
export function keyState(key: StoredKey, all: readonly StoredKey[], now: number): KeyState {
  if (key.compromisedAt !== undefined) return 'compromised';
  if (key.activeFrom > now) return 'next';
  const retiresAt = retirementOf(key, all);
  if (now < retiresAt) return 'active';
  return now < retiresAt + LONGEST_ACCESS_TOKEN_MS ? 'retired' : 'gone';
}

/** When a later key takes over; `Infinity` while there is none. */
export const retirementOf = (key: StoredKey, all: readonly StoredKey[]): number =>
  Math.min(...all.filter((other) => isBelieved(other) && isLater(other, key)).map(({ activeFrom }) => activeFrom));

export const isBelieved = ({ compromisedAt }: StoredKey): boolean => compromisedAt === undefined;

export const isWithin = ({ activeFrom }: StoredKey, { after, until }: Span): boolean => activeFrom > after && activeFrom <= until;

const isLater = (a: StoredKey, b: StoredKey): boolean => a.activeFrom > b.activeFrom || (a.activeFrom === b.activeFrom && a.kid > b.kid);
