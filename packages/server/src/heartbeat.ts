import type { Clock } from '@portcullis/guard';
import type { KeyRing } from './domain/key/key-ring.ts';
import type { Instances } from './domain/instance/instance.ts';
import { every } from './lib/every.ts';
import { newId } from './lib/id.ts';

/**
 * Says in a shared store that this process lives, and which keys it goes by: every two seconds, and as soon as it has taken
 * up others. @returns how many live, as of the last time.
 */
export async function heartbeat(
  on: { readonly instances: Instances; readonly keyRing: Pick<KeyRing, 'version'>; readonly clock: Clock },
  held: AsyncDisposableStack,
): Promise<() => number> {
  const id = newId('instance');
  let living = 1;
  let said = { seenAt: -Infinity, keysVersion: -1 };

  async function beat(): Promise<void> {
    const now = { seenAt: on.clock.now(), keysVersion: on.keyRing.version() };
    if (now.keysVersion === said.keysVersion && now.seenAt < said.seenAt + BEAT_MS) return;
    living = await on.instances.beat({ id, ...now });
    said = now;
  }

  await beat();
  held.defer(() => on.instances.remove(id).catch(() => {})); // after the last beat: what is deferred last is done first
  every(held, LOOK_MS, beat);
  return () => living;
}

/** How soon after its start the others know of an instance. */
const BEAT_MS = 2_000;
/** A look costs nothing: whoever has declared a key compromised may be waiting. */
const LOOK_MS = 100;
