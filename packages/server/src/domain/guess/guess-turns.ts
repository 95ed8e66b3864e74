import { stopwatch } from '@portcullis/guard';
import { Problem } from '../problem.ts';
import type { Guess } from './guess.ts';

/**
 * Many right logins of one name at the same moment are no guesses, but until each has been looked at nobody can know. So
 * who finds the budget used up by attempts that are still under way waits for them, first come, first served; who finds it
 * used up by attempts that failed is refused at once.
 */
export interface GuessTurns {
  /**
   * Counts an attempt by `take` and works on it; whether it was given back is known to `take` once that is done.
   * @returns what `work` gives, or when the attempt may come again.
   * @throws {Problem} `server_busy` when too many wait, or for too long.
   */
  with<T>(key: string, take: () => Promise<Guess | Refused>, work: (guess: Guess) => Promise<T>): Promise<{ done: T } | Refused>;
}

type Refused = { readonly retryAt: number };

/** `settled` counts the attempts that have ended, so that one that ends while the budget is asked is not overlooked. */
type Queue = { underWay: number; settled: number; readonly waiting: (() => void)[] };

/** Bounds as of the queue of hashes, for which these would wait otherwise. */
export function guessTurns({ maxWaiting = 64, patienceMs = 2_000 } = {}): GuessTurns {
  const queues = new Map<string, Queue>();
  let waitingInAll = 0;

  return {
    async with(key, take, work) {
      const queue = queues.get(key) ?? { underWay: 0, settled: 0, waiting: [] };
      queues.set(key, queue);
      try {
        const taken = await turn(queue, take, stopwatch() + patienceMs);
        if ('retryAt' in taken) return taken;
        try {
          return { done: await work(taken) };
        } finally {
          queue.underWay -= 1;
          queue.settled += 1;
        }
      } finally {
        // Whatever came of it, the next one may look; it wakes the one behind it in turn.
        queue.waiting.shift()?.();
        if (queue.underWay === 0 && queue.waiting.length === 0) queues.delete(key);
      }
    },
  };

  async function turn(queue: Queue, take: () => Promise<Guess | Refused>, until: number): Promise<Guess | Refused> {
    if (queue.waiting.length > 0) await wait(queue, 'last', until);
    for (;;) {
      const { settled } = queue;
      const taken = await take();
      if (!('retryAt' in taken)) {
        queue.underWay += 1;
        return taken;
      }
      if (queue.settled !== settled) continue;
      if (queue.underWay === 0) return taken;
      await wait(queue, 'first', until);
    }
  }

  async function wait({ waiting }: Queue, where: 'first' | 'last', until: number): Promise<void> {
    if (waitingInAll >= maxWaiting) throw busy(`${maxWaiting} wait for others of their name`);
    waitingInAll += 1;
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    if (where === 'first') waiting.unshift(resolve);
    else waiting.push(resolve);
    const timer = setTimeout(
      () => {
        waiting.splice(waiting.indexOf(resolve), 1);
        reject(busy('waited too long for others of the name'));
      },
      Math.max(0, until - stopwatch()),
    );
    await promise.finally(() => {
      clearTimeout(timer);
      waitingInAll -= 1;
    });
  }
}

const busy = (why: string): Problem => new Problem('server_busy', why, { retryAfterS: 1 });
