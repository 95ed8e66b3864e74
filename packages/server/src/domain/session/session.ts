/** One signed-in place; owns one chain of refresh tokens. */
export type Session = {
  readonly id: string;
  readonly userId: string;
  readonly createdAt: number;
  readonly authenticatedAt: number;
  /** The absolute end; rotation never moves it. */
  readonly expiresAt: number;
  /** The last login or refresh. */
  readonly lastUsedAt: number;
  /** How often its refresh token has rotated. */
  readonly generation: number;
  /** No access token of this session lives longer. */
  readonly accessUntil: number;
  readonly endedAt: number | undefined;
  readonly endedBecause: EndedBecause | undefined;
  /** Where it was opened from, and with what, for its owner to recognise it. */
  readonly address: string;
  readonly userAgent: string;
};

export const endings = ['logout', 'replay', 'admin', 'user_disabled', 'user_removed', 'password_changed', 'too_many'] as const;
export type EndedBecause = (typeof endings)[number];

export type NewSession = Omit<Session, 'lastUsedAt' | 'generation' | 'endedAt' | 'endedBecause'> & { readonly tokenHash: string };

/** A session that has just ended: what a revocation needs to know. */
export type Ended = { readonly id: string; readonly userId: string; readonly accessUntil: number };

export type RotateRequest = {
  readonly id: string;
  /** Hash of the refresh token that was presented. */
  readonly presentedHash: string;
  readonly nextHash: string;
  /** The successor, sealed so that only who presents this same token again can open it. Not kept where there is no grace. */
  readonly successorSeal: string;
  readonly at: number;
  readonly graceMs: number;
  /** A session unused for longer has ended; `undefined`: never. */
  readonly idleMs: number | undefined;
  readonly accessUntil: number;
};

export type Rotation =
  /** R1: the presented token was the chain's last; now the next one is. */
  | { readonly outcome: 'rotated'; readonly session: Session }
  /** R2: presented again within the grace, its successor unused: the same successor is due. */
  | { readonly outcome: 'repeated'; readonly session: Session; readonly successorSeal: string }
  /** R3: a token that was really ours and is spent; the session has ended by this. */
  | { readonly outcome: 'replayed'; readonly ended: Ended }
  /** R5: past its absolute or its idle end. */
  | { readonly outcome: 'expired' }
  /** R4: ended before, unknown, or of a user who is disabled or gone. */
  | { readonly outcome: 'ended' };

export interface Sessions {
  /**
   * One statement, conditional on the password still being the one that was verified and the user being enabled (R4).
   */
  add(session: NewSession, ifCredentialVersion: number): Promise<'added' | 'outdated'>;
  /** Each step is one conditional statement; of any number at once, one is told `rotated`. */
  rotate(request: RotateRequest): Promise<Rotation>;
  /** Ends a living session; `undefined` when there was none to end. */
  end(id: string, because: EndedBecause, at: number): Promise<Ended | undefined>;
  endAllOf(userId: string, because: EndedBecause, at: number): Promise<Ended[]>;
  /** Ends the oldest ones of the user, so that beside this one, which has just been added, there are fewer than `max`. */
  endOldest(session: Pick<Session, 'id' | 'userId'>, max: number, at: number): Promise<Ended[]>;
  find(id: string): Promise<Session | undefined>;
  /** Whether it lives no more, or never did; and, in the same read, the version of the keys. */
  standing(id: string): Promise<{ isEnded: boolean; keysVersion: number }>;
  /** Living ones, newest first. */
  listLive(page: { userId?: string; at: number; limit: number }): Promise<Session[]>;
  /** How many are living. */
  countLive(at: number): Promise<number>;
  /** Ended ones of which an access token may still live: what a revocation list holds. Of those that ended since then alone, where it is told. */
  listRevoked(at: number, endedSince?: number): Promise<Ended[]>;
  /** Clears the seals of rotations before this time; says how many. */
  clearSeals(rotatedBefore: number): Promise<number>;
  /** Deletes sessions that ended or expired before this time, at most `limit`; says how many. */
  deleteDead(before: number, limit: number): Promise<number>;
}
