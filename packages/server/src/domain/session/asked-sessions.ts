import type { Keys } from '../key/key.ts';
import type { RevokedSessions } from './revoked-sessions.ts';
import type { Sessions } from './session.ts';

export interface AskedSessions extends RevokedSessions {
  /** Reads the keys anew where this version of them has not been read yet. */
  follow(keysVersion: number): Promise<void> | undefined;
}

/**
 * The revocations of a process that shares its store with others: nothing is remembered, the store is asked for each
 * request, by one indexed read. The same read tells whether keys have changed.
 * @param on.onKeysChanged reads the keys anew; until they have been, nobody is believed.
 */
export function askedSessions(on: {
  sessions: Pick<Sessions, 'standing'>;
  keys: Pick<Keys, 'version'>;
  onKeysChanged?: () => Promise<void>;
}): AskedSessions {
  let seen: number | undefined;
  let reading: { readonly version: number; readonly done: Promise<void> } | undefined;

  function follow(keysVersion: number): Promise<void> | undefined {
    if (reading?.version === keysVersion) return reading.done;
    if (keysVersion === seen) return undefined;
    const done = (async () => {
      await on.onKeysChanged?.();
      seen = keysVersion;
    })().finally(() => {
      if (reading?.done === done) reading = undefined;
    });
    reading = { version: keysVersion, done };
    return done;
  }

  const look = async (): Promise<void> => follow(await on.keys.version());

  return {
    follow,
    async isRevoked(sessionId) {
      const { isEnded, keysVersion } = await on.sessions.standing(sessionId);
      await follow(keysVersion);
      return isEnded;
    },
    current: look,
    newKeys: look,
    look,
    load: look,
    add: () => {},
    keysChanged: () => {},
    sweep: () => {},
    size: () => 0,
  };
}
