import type { Sessions } from './session.ts';

/** What the store knows of Redis, so that a Redis that has forgotten, or is another one, is found out. */
export type RedisMark = {
  /** What Redis must say for its silence about a session to be believed; 0 before it was first told. */
  readonly generation: number;
  /** Which Redis was told so: another number for each start of each server. */
  readonly run: number;
};

export interface RedisMarks {
  /** And, in the same read, a number that is another one whenever keys have changed, and one that no other store has. */
  find(): Promise<RedisMark & { readonly keysVersion: number; readonly store: number }>;
  /**
   * Alone among all instances: `fill` tells Redis what is missing, then the mark is `next`. Nothing is done where the mark is
   * not `before` any more: then another instance has just done it.
   */
  renew(
    before: RedisMark,
    next: RedisMark,
    fill: (keysVersion: number, sessions: Pick<Sessions, 'listRevoked'>) => Promise<void>,
  ): Promise<void>;
}
