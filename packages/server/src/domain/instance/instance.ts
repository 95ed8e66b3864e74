/** A process that serves from a store which it shares with others. */
export type Instance = {
  readonly id: string;
  /** When it last said that it lives. */
  readonly seenAt: number;
  /** Which version of the keys it goes by: every change of a key up to that one. */
  readonly keysVersion: number;
};

/** The processes that share a store, as each says every few seconds that it lives. */
export interface Instances {
  /** @returns how many live, this one among them. */
  beat(instance: Instance): Promise<number>;
  remove(id: string): Promise<void>;
  /** Those that live, by their ids. One that was killed is among them for half a minute. */
  list(at: number): Promise<Instance[]>;
}

/** Who has not been heard of for so long lives no more. */
export const ALIVE_MS = 30_000;
