import type { Soon } from './soon.ts';

/**
 * Dear work, so many pieces a turn of the event loop and the rest in later ones, first come first served: whoever needs none of it
 * is answered in between, however much of it has come at once.
 */
export function fewATurn(most: number): <T>(work: () => T) => Soon<T> {
  const waiting: (() => void)[] = [];
  let left = most;

  function nextTurn(): void {
    left = most;
    const now = waiting.splice(0, most);
    if (now.length === 0) return;
    left -= now.length;
    setImmediate(nextTurn);
    for (const begin of now) begin();
  }

  return (work) => {
    if (left === 0) return new Promise<void>((begin) => waiting.push(begin)).then(work);
    if (left === most) setImmediate(nextTurn);
    left -= 1;
    return work();
  };
}
