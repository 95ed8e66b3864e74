import type { Clock, Revocations, Soon } from '@portcullis/guard';
import type { Ended, Sessions } from './session.ts';

/**
 * The revocations of one process that owns its store: a map in memory, filled from the store at the start and whenever
 * somebody else (the CLI) has written to it. Asking costs a look-up.
 */
export interface RevokedSessions extends Revocations {
  /** Done when every instance refuses them. @throws {Problem} `revocation_pending` where not all have heard of it; they will within seconds. */
  add(ended: readonly Ended[]): Soon<void>;
  /** Done when every instance has heard that keys have changed; where that cannot be, within seconds. */
  keysChanged(): Soon<void>;
  /** Looks whether somebody else has written to the store, and reads it anew if so. */
  look(): void | Promise<void>;
  /** Looks, and waits until everything that is read anew is. @throws what reading it throws. */
  current(): Promise<void>;
  /** Reads the store's truth anew. */
  load(): Promise<void>;
  /** Forgets those whose last access token has died. */
  sweep(): void;
  size(): number;
}

/**
 * While memory may be behind the store, whoever asks waits until it has been read; where it cannot be read he is refused,
 * and the next turn of the event loop tries again.
 * @param on.changedElsewhere whether another process has written to the store since it was last asked. It is asked at
 *   most once a turn of the event loop.
 * @param on.onChanged what else must be read anew then; until it has been, nobody is believed either.
 */
export function revokedSessions(on: {
  sessions: Pick<Sessions, 'listRevoked'>;
  clock: Clock;
  changedElsewhere: () => boolean;
  onChanged?: () => Promise<void>;
}): RevokedSessions {
  const untilOf = new Map<string, number>();
  let askedThisTurn = false;
  let loading: Promise<void> | undefined;
  let hasFailed = false;

  const add = (ended: readonly Ended[]): void => {
    for (const { id, accessUntil } of ended) untilOf.set(id, accessUntil);
  };

  const load = async (): Promise<void> => add(await on.sessions.listRevoked(on.clock.now()));

  function look(): void {
    const changed = on.changedElsewhere(); // where it throws, whoever asks next must ask again
    askedThisTurn = true;
    setImmediate(() => {
      askedThisTurn = false;
    });
    if (!changed && !hasFailed) return;
    hasFailed = false;
    const current = Promise.all([load(), on.onChanged?.()]).then(() => {});
    loading = current;
    current.then(
      () => {
        if (loading === current) loading = undefined;
      },
      () => {
        if (loading === current) hasFailed = true;
      },
    );
  }

  return {
    async current() {
      if (!askedThisTurn) look();
      await loading;
    },
    isRevoked(sessionId) {
      try {
        if (!askedThisTurn) look();
      } catch (error) {
        return Promise.reject(error);
      }
      return loading ? loading.then(() => untilOf.has(sessionId)) : untilOf.has(sessionId);
    },
    add,
    keysChanged: () => {},
    look,
    load,
    sweep() {
      const now = on.clock.now();
      for (const [id, until] of untilOf) if (until <= now) untilOf.delete(id);
    },
    size: () => untilOf.size,
  };
}
