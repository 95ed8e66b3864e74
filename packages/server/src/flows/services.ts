import type { Clock } from '@portcullis/guard';
import type { GuessTurns } from '../domain/guess/guess-turns.ts';
import type { GuessPlaces } from '../domain/guess/guess-places.ts';
import type { SprayWatch } from '../domain/guess/spraying.ts';
import type { KeyRing } from '../domain/key/key-ring.ts';
import type { CsrfTokens } from '../domain/session/csrf-tokens.ts';
import type { RevokedSessions } from '../domain/session/revoked-sessions.ts';
import type { Stores, Together } from '../domain/stores.ts';
import type { AccessTokenMint } from '../domain/token/access-token.ts';
import type { DeviceTokens } from '../domain/token/device-token.ts';
import type { RefreshTokens } from '../domain/token/refresh-token.ts';

export interface Passwords {
  hash(password: string): Promise<string>;
  /** Costs the same whether there is a hash to compare with or not; without one, false. */
  verify(password: string, passwordHash: string | undefined, gone?: AbortSignal): Promise<boolean>;
  /** @throws {Problem} `server_busy` when the next one could not even wait: before anything is written for its sake. */
  assertRoom(): void;
}

/** Everything that flows are made of; each takes what it needs. */
export type Services = Stores & {
  readonly clock: Clock;
  readonly together: Together;
  readonly passwords: Passwords;
  /** @throws {Problem} naming what is wrong with a new password. */
  readonly checkNewPassword: (password: string, username: string) => void;
  readonly refreshTokens: RefreshTokens;
  readonly csrfTokens: CsrfTokens;
  readonly accessTokens: AccessTokenMint;
  readonly keyRing: KeyRing;
  readonly revoked: RevokedSessions;
  readonly guessPlaces: GuessPlaces;
  readonly guessTurns: GuessTurns;
  readonly deviceTokens: DeviceTokens;
  readonly sprayWatch: SprayWatch;
  readonly lifetimes: Lifetimes;
};

export type Lifetimes = {
  readonly refreshTokenTtlMs: number;
  readonly refreshGraceMs: number;
  readonly sessionIdleTtlMs: number | undefined;
  readonly sessionsPerUser: number;
};

/** Who sent a request, as far as it shows: for sessions and audit. */
export type Sender = {
  readonly address: string;
  /** What counts as one sender: a whole IPv4 address, a prefix of an IPv6 one. */
  readonly block: string;
  readonly requestId: string;
  readonly userAgent: string;
  /** Aborted when nobody waits for the answer any more. */
  readonly gone?: AbortSignal;
};

/** What a login or a refresh hands out. */
export type Tokens = {
  readonly accessToken: string;
  readonly refreshToken: string;
  /** Whole seconds that the access token lives. */
  readonly expiresInS: number;
  readonly sessionId: string;
  /** Whole seconds to the session's absolute end. */
  readonly sessionEndsInS: number;
  /** Of a login alone. */
  readonly deviceToken?: string;
};
