import { deriveKey, hmac } from '../../lib/seal.ts';
import { deviceBudget, type GuessPlace, strangersBudget } from './guess.ts';

/** Where the attempts at a name are counted. No name is in clear there, nor can be tried out without the master secret. */
export interface GuessPlaces {
  /** @param nameKey as `usernameKey` gives it, here and below: all spellings of a name are one. */
  ofStrangers(nameKey: string): GuessPlace;
  /** Needs no bound of its own: a device is known only after a good login, and that leaves more behind than this. */
  ofDevice(nameKey: string, deviceId: string): GuessPlace;
}

/** Names that nobody has can be made up without end; beyond so many, newcomers share. At worst some 150 MB. */
const ROWS = 100_000;
const SHARED_ROWS = 1_024;

export function guessPlaces(masterSecret: string): GuessPlaces {
  const macKey = deriveKey(masterSecret, 'guesses');
  const macOf = (...parts: readonly string[]): Buffer => hmac(macKey, JSON.stringify(parts));

  return {
    ofStrangers(nameKey) {
      const mac = macOf('name', nameKey);
      // Keyed, so that nobody can choose whom to share with.
      const shared = `shared ${mac.readUInt32BE() % SHARED_ROWS}`;
      return { budget: strangersBudget, key: mac.toString('base64url'), overflow: { key: shared, beyond: ROWS } };
    },
    ofDevice: (nameKey, deviceId) => ({ budget: deviceBudget, key: macOf('device', nameKey, deviceId).toString('base64url') }),
  };
}
