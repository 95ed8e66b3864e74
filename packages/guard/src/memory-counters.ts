import { createHmac } from 'node:crypto';
import type { Clock } from './clock.ts';
import type { Charge, Counters, Standing, Verdict } from './counters.ts';
import type { Limit, Rule } from './limit.ts';
import { copyList, count, isOver, leavesAt, newList, resetMs, settle, type SlidingList } from './sliding-list.ts';

export interface MemoryCounters extends Counters {
  peek(charges: readonly Charge[]): Verdict;
  take(charges: readonly Charge[]): Verdict;
  /** How many keys have a counter of their own. */
  size(): number;
  /**
   * Deletes dead counters. Looks at 5,000 keys at most, a few milliseconds, and goes on from there the next time: for
   * housekeeping to call about once a second.
   */
  sweep(): void;
}

type Counter = SlidingList & { readonly shared: boolean };

/** The counters of one rule. */
type Book = {
  readonly limit: Limit;
  readonly own: Map<string, Counter>;
  /** Overflow: counters of many keys each, by the keyed hash of the key. All dead from `sharedUntil` on. */
  readonly shared: Map<number, Counter>;
  sharedUntil: number;
};

/** How many counters are looked at to find the dead: by a newcomer to a full memory, by a sweep. Both go round. */
const LOOKS = { newcomer: 8, sweep: 5_000 };

/**
 * Counters in this process, bounded: no live counter is ever dropped. A key that comes when `maxKeys` have counters of
 * their own shares one of the rule's `overflowCounters`, and may be refused early for it. As soon as there is room it
 * gets its own, which begins as a copy of the shared one: so it never has more than its limit, in the two together.
 * @param secret keys the hash that chooses the overflow counter, so that nobody can choose whom to share it with.
 */
export function memoryCounters({
  clock,
  secret,
  maxKeys = 200_000,
  overflowCounters = 256,
}: {
  readonly clock: Clock;
  readonly secret: Uint8Array;
  readonly maxKeys?: number;
  readonly overflowCounters?: number;
}): MemoryCounters {
  const books = new Map<string, Book>();
  let keys = 0;
  let cursor = everyKey();
  /** The counters of the request at hand, one for each charge. Kept here so that a request allocates nothing for them. */
  const found: (Counter | undefined)[] = [];

  return {
    peek(charges) {
      const now = clock.now();
      return refusal(charges, now) ?? admission(charges, now);
    },

    take(charges) {
      const now = clock.now();
      const refused = refusal(charges, now);
      if (refused) return refused;
      for (let i = 0; i < charges.length; i++) {
        const { rule, who } = charges[i]!;
        const known = found[i];
        const counter = known && !known.shared ? known : place(rule, who, known, now);
        found[i] = counter;
        if (found.indexOf(counter) === i) count(counter, rule.limit, now);
      }
      return admission(charges, now);
    },

    size: () => keys,

    sweep() {
      const now = clock.now();
      found.length = 0;
      for (let looks = Math.min(keys, LOOKS.sweep); looks > 0; looks--) reclaimNext(now);
      for (const book of books.values()) if (now >= book.sharedUntil) book.shared.clear();
    },
  };

  /** Finds and settles the counter of each charge; the refusal with the longest wait, if one refuses. */
  function refusal(charges: readonly Charge[], now: number): Verdict | undefined {
    let longest: Standing | undefined;
    if (found.length !== charges.length) found.length = charges.length;
    for (let i = 0; i < charges.length; i++) {
      const { rule, who } = charges[i]!;
      const counter = (found[i] = find(rule, who, now));
      if (counter === undefined || settle(counter, rule.limit, now) > 0) continue;
      const waitMs = resetMs(counter, rule.limit, now);
      if (longest === undefined || waitMs > longest.resetMs) longest = { rule, remaining: 0, resetMs: waitMs };
    }
    return longest && { allowed: false, refusedBy: longest };
  }

  function admission(charges: readonly Charge[], now: number): Verdict {
    let tightest = -1;
    let mostUsed = -1;
    for (let i = 0; i < charges.length; i++) {
      const used = (found[i]?.total ?? 0) / charges[i]!.rule.limit.max;
      if (used <= mostUsed) continue;
      mostUsed = used;
      tightest = i;
    }
    return { allowed: true, tightest: tightest < 0 ? undefined : standing(charges[tightest]!.rule, found[tightest], now) };
  }

  function standing(rule: Rule, counter: Counter | undefined, now: number): Standing {
    if (counter === undefined) return { rule, remaining: rule.limit.max, resetMs: 0 };
    return { rule, remaining: rule.limit.max - counter.total, resetMs: resetMs(counter, rule.limit, now) };
  }

  /** The counter that a key's requests are in: its own, or the one that it may have shared. */
  function find(rule: Rule, who: string, now: number): Counter | undefined {
    const book = books.get(rule.id);
    const own = book?.own.get(who);
    if (own || !book || book.shared.size === 0) return own;
    if (now >= book.sharedUntil) {
      book.shared.clear();
      return undefined;
    }
    return book.shared.get(slotOf(who));
  }

  /** A counter to count a key in that has none of its own; `known` is the shared one that was found for it. */
  function place(rule: Rule, who: string, known: Counter | undefined, now: number): Counter {
    const book = bookOf(rule);
    const own = book.own.get(who);
    if (own) return own; // the same charge stands earlier in this request

    for (let looks = LOOKS.newcomer; looks > 0 && keys >= maxKeys; looks--) reclaimNext(now);
    if (keys < maxKeys) {
      const counter = { ...(known ? copyList(known) : newList()), shared: false };
      book.own.set(who, counter);
      keys += 1;
      return counter;
    }

    book.sharedUntil = leavesAt(rule.limit, now);
    if (known) return known;
    const slot = slotOf(who);
    const shared = book.shared.get(slot) ?? { ...newList(), shared: true };
    book.shared.set(slot, shared);
    return shared;
  }

  function bookOf({ id, limit }: Rule): Book {
    let book = books.get(id);
    if (!book) books.set(id, (book = { limit, own: new Map(), shared: new Map(), sharedUntil: 0 }));
    return book;
  }

  function slotOf(who: string): number {
    return createHmac('sha256', secret).update(who).digest().readUInt32LE() % overflowCounters;
  }

  /** Looks at the next counter, and deletes it if it is dead. */
  function reclaimNext(now: number): void {
    let next = cursor.next();
    if (next.done) next = (cursor = everyKey()).next();
    if (next.done) return;
    const { book, who, counter } = next.value;
    // One that this very request is about to count in is not dead, only still empty.
    if (!isOver(counter, book.limit, now) || found.includes(counter)) return;
    book.own.delete(who);
    keys -= 1;
  }

  function* everyKey() {
    for (const book of books.values()) for (const [who, counter] of book.own) yield { book, who, counter };
  }
}
