/** What a user proves: here, a password. */
export type PasswordCredential = {
  readonly userId: string;
  /** PHC string; argon2id. */
  readonly passwordHash: string;
  /** Grows with each change, so that a login that verified an older password adds no session. */
  readonly version: number;
  readonly changedAt: number;
};

export interface Credentials {
  findPassword(userId: string): Promise<PasswordCredential | undefined>;
  /** Adds the password, or replaces it and raises its version. */
  setPassword(userId: string, passwordHash: string, at: number): Promise<void>;
  remove(userId: string): Promise<void>;
}
