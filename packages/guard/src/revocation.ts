/** Sessions no longer believed. Asked for each request that carries a token. */
export interface Revocations {
  /** @throws {Problem} `unavailable` when the truth cannot be asked: never an answer that might be wrong. */
  isRevoked(sessionId: string): boolean | Promise<boolean>;
  /** Where another process may have made a key that this one has not heard of: done when it has. */
  newKeys?(): Promise<void>;
}
