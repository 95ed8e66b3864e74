import type { ClientAddress, Clock, Refusal } from '@portcullis/guard';

/** A refusal as a log may hold it: what it was, or how many of the same there were. */
export type RefusalLine = Readonly<Record<string, unknown>>;

/** Keeps a flood of refusals from flooding a log: the first of its kind is told at once, more of the same once a minute. */
export interface RefusalSums {
  add(refusal: Refusal): void;
  /** Tells the sums that are so old. After a minute without any, the next refusal is a first one again. */
  tell(ageMs?: number): void;
}

const MINUTE_MS = 60_000;
/** So many kinds, which are a code from an address block, are told apart at a time; what is beyond is summed together. */
const MAX_KINDS = 10_000;

type Sum = { readonly code: string; readonly block: string; count: number; since: number; lastId: string };

export function refusalSums({ clock, tell: write }: { clock: Clock; tell: (line: RefusalLine) => void }): RefusalSums {
  /** By code and block: no text need be made to find one. */
  const sums = new Map<string, Map<string, Sum>>();
  let kinds = 0;
  const beyond: Sum = { code: 'many', block: 'many', count: 0, since: 0, lastId: '' };

  function tellSum(sum: Sum, now: number): void {
    const { code, block, count, since, lastId } = sum;
    write({ code, block, count, since: new Date(since).toISOString(), lastRequestId: lastId });
    Object.assign(sum, { count: 0, since: now });
  }

  return {
    add(refusal) {
      const { code } = refusal;
      const { block } = refusal.from;
      const known = sums.get(code)?.get(block) ?? (kinds >= MAX_KINDS ? beyond : undefined);
      if (!known) {
        sums.getOrInsertComputed(code, () => new Map()).set(block, { code, block, count: 0, since: clock.now(), lastId: '' });
        kinds += 1;
        return write(lineOf(refusal));
      }
      if (known === beyond && beyond.count === 0) beyond.since = clock.now();
      known.count += 1;
      known.lastId = refusal.requestId;
    },

    tell(ageMs = MINUTE_MS) {
      const now = clock.now();
      for (const [code, ofCode] of sums) {
        for (const [block, sum] of ofCode) {
          if (now - sum.since < ageMs) continue;
          if (sum.count > 0) tellSum(sum, now);
          else if (ofCode.delete(block)) kinds -= 1;
        }
        if (ofCode.size === 0) sums.delete(code);
      }
      if (beyond.count > 0 && now - beyond.since >= ageMs) tellSum(beyond, now);
    },
  };
}

function lineOf({ code, status, reason, from, method, route, requestId, userId, sessionId, logged }: Refusal): RefusalLine {
  return { code, status, reason, address: from.address, method, route, requestId, userId, sessionId, ...logged };
}

/** What the wire refused before there was a request to speak of. Status 0: it had no answer. */
export const wireRefused = (
  code: string,
  status: number,
  from: ClientAddress | undefined,
  requestId: string,
  reason = 'wire',
): Refusal => ({
  code,
  status,
  requestId,
  from: from ?? { address: '', block: '' },
  reason,
  method: '',
  route: undefined,
  userId: undefined,
  sessionId: undefined,
  logged: {},
  error: undefined,
});
