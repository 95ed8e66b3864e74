import { isBelieved, isWithin, keyState, PUBLISHED_BEFORE_USE_MS, type Span, type StoredKey } from './key.ts';

/** When the server makes the next key, before it is due: often enough looked at to be published for its ten minutes. */
const MADE_BEFORE_USE_MS = 3_600_000;

/**
 * When the key that signs now gives way by schedule, as things stand; `undefined` where it never does: it was brought by
 * an operator, who brings the next one too, or nothing rotates by itself.
 * @param everyMs `undefined`: never.
 */
export function rotationDue(all: readonly StoredKey[], now: number, everyMs: number | undefined): number | undefined {
  const active = all.find((key) => keyState(key, all, now) === 'active');
  if (active?.origin !== 'made' || everyMs === undefined) return undefined;
  return Math.max(active.activeFrom + everyMs, now + PUBLISHED_BEFORE_USE_MS);
}

export type Rotation = {
  /** When the next key begins to sign. */
  readonly activeFrom: number;
  /** Where a key that begins to sign is the next one already: from the active one's time to a while after this one's. */
  readonly unless: Span;
};

/**
 * The rotation that must be prepared now; `undefined` while there is time, or a key for it. A server that was down when
 * it was due makes up for it, ten minutes from now. Only keys near that time count as the next one: one of a far future,
 * when a clock was wrong, must not keep the active one signing until then.
 */
export function rotationNow(all: readonly StoredKey[], now: number, everyMs: number | undefined): Rotation | undefined {
  const activeFrom = rotationDue(all, now, everyMs);
  if (activeFrom === undefined || now < activeFrom - MADE_BEFORE_USE_MS) return undefined;
  const active = all.find((key) => keyState(key, all, now) === 'active');
  const unless = { after: active?.activeFrom ?? activeFrom, until: activeFrom + MADE_BEFORE_USE_MS };
  return all.some((key) => isBelieved(key) && isWithin(key, unless)) ? undefined : { activeFrom, unless };
}
