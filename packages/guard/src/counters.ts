import type { Rule } from './limit.ts';
import type { Soon } from './soon.ts';

/** One rule, and on whose account the request counts: an address block, a user id, a hashed username. */
export type Charge = { readonly rule: Rule; readonly who: string };

/** How a charge stands after the verdict. */
export type Standing = {
  readonly rule: Rule;
  /** How many more requests would be admitted now. */
  readonly remaining: number;
  /** Milliseconds until `remaining` next grows, if nobody else counts until then; 0 when nothing is counted. */
  readonly resetMs: number;
};

export type Verdict =
  /** `tightest`: the charge with the least of its limit left, the first of equals; `undefined` without any charge. */
  | { readonly allowed: true; readonly tightest: Standing | undefined }
  /** `refusedBy`: of the charges that refuse, the one with the longest wait, the first of equals. After its `resetMs` all admit. */
  | { readonly allowed: false; readonly refusedBy: Standing };

/** The port of the counters. `counters-conformance.ts` says what every implementation must do. */
export interface Counters {
  /** What `take` would answer now, counting nothing. */
  peek(charges: readonly Charge[]): Soon<Verdict>;
  /** Counts the request on every charge, or on none when one refuses. A charge named twice counts once. */
  take(charges: readonly Charge[]): Soon<Verdict>;
  /**
   * Where revocations are kept beside the counters: both asked in one trip. The request counts on all charges while its
   * session lives, and on `always` alone when it does not. Without this the revocations are asked first, then the counters.
   */
  takeFor?(sessionId: string, always: readonly Charge[], ifLiving: readonly Charge[]): Soon<{ verdict: Verdict; revoked: boolean }>;
  /** Where the marks of tokens are kept there too: the same for a token by its mark, or `undefined`, with nothing counted, where nobody knows it. */
  takeForKnown?(
    mark: string,
    sessionId: string,
    always: readonly Charge[],
    ifLiving: readonly Charge[],
  ): Soon<{ verdict: Verdict; revoked: boolean } | undefined>;
}
