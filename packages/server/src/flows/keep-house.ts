import type { Services } from './services.ts';
import { removeGoneKeys } from './keep-keys.ts';

const BATCH = 500;
/** Dead sessions are kept this long, so that an operator can still see them. */
const DEAD_SESSIONS_KEPT_MS = 7 * 86_400_000;

/** Seals must not outlive the grace for long: they are looked after every few seconds. */
export async function clearSeals(on: Pick<Services, 'clock' | 'sessions' | 'lifetimes'>): Promise<void> {
  await on.sessions.clearSeals(on.clock.now() - on.lifetimes.refreshGraceMs);
}

/** Deletes what is dead: in batches, so that nobody waits long behind it. */
export async function keepHouse(
  on: Pick<Services, 'clock' | 'sessions' | 'audit' | 'guesses' | 'keys' | 'together'>,
  auditRetentionMs: number,
): Promise<void> {
  const now = on.clock.now();
  await untilFew(() => on.sessions.deleteDead(now - DEAD_SESSIONS_KEPT_MS, BATCH));
  await untilFew(() => on.guesses.deleteDead(now, BATCH));
  await untilFew(() => on.audit.deleteBefore(now - auditRetentionMs, BATCH));
  await removeGoneKeys(on);
}

async function untilFew(deleteSome: () => Promise<number>): Promise<void> {
  while ((await deleteSome()) === BATCH) await new Promise((next) => setImmediate(next));
}
