import type { Audit } from './audit/audit.ts';
import type { Credentials } from './credential/credential.ts';
import type { Guesses } from './guess/guess.ts';
import type { Keys } from './key/key.ts';
import type { Sessions } from './session/session.ts';
import type { Users } from './user/user.ts';

/** The ports to what is stored. */
export type Stores = {
  readonly users: Users;
  readonly credentials: Credentials;
  readonly sessions: Sessions;
  readonly keys: Keys;
  readonly audit: Audit;
  readonly guesses: Guesses;
};

/** All or nothing: what `work` writes through the stores it is handed is there as a whole, or not at all. */
export type Together = <T>(work: (stores: Stores) => Promise<T>) => Promise<T>;
