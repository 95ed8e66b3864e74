import type { Clock } from '@portcullis/guard';
import { every } from './lib/every.ts';
import { newId } from './lib/id.ts';
import { serverLog } from './lib/server-log.ts';
import type { SqlStore } from './storage/sql/sql-store.ts';

/** What all instances of a store do in turns: whoever has this lease keeps house. */
export const HOUSE = 'house';

/** How long another waits for one that is silent. */
const TURN_MS = 6_000;
const RENEWED_EVERY_MS = 2_000;

/**
 * Whether it is this process that does now what one must do for all. A turn lasts as long as its holder says so every
 * two seconds: who ends gives it back, of who dies or hangs another takes it over within some eight seconds.
 * The one owner of a store has every turn.
 */
export async function takeTurns({ leases }: Pick<SqlStore, 'leases'>, clock: Clock, held: AsyncDisposableStack): Promise<() => boolean> {
  if (!leases) return () => true;
  const id = newId('instance');
  let oursUntil = 0;

  const look = async (): Promise<void> => {
    const at = clock.now();
    const wasOurs = at < oursUntil;
    const isOurs = await leases.take(HOUSE, id, at, at + TURN_MS);
    oursUntil = isOurs ? at + TURN_MS : 0;
    if (isOurs !== wasOurs) serverLog.info(isOurs ? 'this instance keeps house' : 'another instance keeps house');
  };

  await look();
  held.defer(() => leases.leave(HOUSE, id).catch(() => {})); // after the last look: what is deferred last is done first
  every(held, RENEWED_EVERY_MS, look);
  return () => clock.now() < oursUntil;
}
