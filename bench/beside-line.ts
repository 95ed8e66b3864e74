/** Something measured beside the table of requests: a time, a size, a ratio. */
export type BesideLine = {
  readonly name: string;
  readonly value: number;
  readonly min?: number;
  readonly max?: number;
  readonly unit: string;
  /** At most so much. */
  readonly bar?: number;
  readonly holds?: boolean;
  readonly note?: string;
};
