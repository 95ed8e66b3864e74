import type { Limit } from './limit.ts';

/**
 * What one counter remembers: a list of [at, count], flat and oldest first, at most 33 of them.
 *
 * It never lets more than `max` requests into any window `[t, t + windowMs)`, and exactly `max` from rest. Up to 32
 * requests each has its own time. Above that, times are rounded up to the end of their slot of window/32: an entry
 * leaves when its whole slot is older than the window, so a request may be refused up to one slot too long, never
 * admitted too early.
 *
 * Every store means the same: what is here, the Redis script does too.
 */
export type SlidingList = {
  /** at, count, at, count, … */
  readonly entries: number[];
  /** The sum of the counts. */
  total: number;
};

const SLOTS = 32;

export function newList(): SlidingList {
  return { entries: [], total: 0 };
}

export function copyList({ entries, total }: SlidingList): SlidingList {
  return { entries: entries.slice(), total };
}

/** Forgets what has left by `now`, and says how many more requests may be counted: 0 is a refusal. */
export function settle(list: SlidingList, { max, windowMs }: Limit, now: number): number {
  const { entries } = list;
  let left = 0;
  while (left < entries.length && entries[left]! + windowMs <= now) {
    list.total -= entries[left + 1]!;
    left += 2;
  }
  if (left > 0) entries.splice(0, left);
  return max - list.total;
}

/** Counts one request that `settle` has just found room for. */
export function count(list: SlidingList, limit: Limit, now: number): void {
  const { entries } = list;
  const last = entries.length - 2;
  const at = roundUp(limit, now);
  list.total += 1;
  // Not only equal: should the clock run back, the request counts as late as the one before it, and the order stays.
  if (last >= 0 && at <= entries[last]!) entries[last + 1]! += 1;
  else entries.push(at, 1);
}

/**
 * Milliseconds until the oldest entry leaves and one more request is admitted, if nobody else counts until then;
 * 0 for an empty list. The list was settled at `now`.
 */
export function resetMs({ entries }: SlidingList, { windowMs }: Limit, now: number): number {
  const oldest = entries[0];
  return oldest === undefined ? 0 : oldest + windowMs - now;
}

/** Whether nothing in the list counts any more: then it means the same as a new one. */
export function isOver({ entries }: SlidingList, { windowMs }: Limit, now: number): boolean {
  return entries.length === 0 || entries[entries.length - 2]! + windowMs <= now;
}

/** When a request counted at `now` leaves. */
export function leavesAt(limit: Limit, now: number): number {
  return roundUp(limit, now) + limit.windowMs;
}

/**
 * The time under which a request is kept. A slot's length need not be whole milliseconds, so slots are numbered, and
 * the first millisecond after this one's slot is taken. Exact in doubles: every product stays under 2^53 for 8,000 years.
 */
function roundUp({ max, windowMs }: Limit, now: number): number {
  if (max <= SLOTS) return now;
  const slot = Math.floor((now * SLOTS) / windowMs);
  return Math.ceil(((slot + 1) * windowMs) / SLOTS);
}
