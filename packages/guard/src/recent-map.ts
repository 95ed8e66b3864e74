/** A map that holds at most about `size` entries, those used last. */
export interface RecentMap<K, V> {
  get(key: K): V | undefined;
  set(key: K, value: V): void;
}

/**
 * Two generations instead of a linked list: when the young one is full it becomes the old one, and the old one is
 * dropped whole. What was used since then has moved over by itself, so finding costs one look-up, or two.
 */
export function recentMap<K, V>(size: number): RecentMap<K, V> {
  const half = Math.max(1, Math.floor(size / 2));
  let young = new Map<K, V>();
  let old = new Map<K, V>();

  function set(key: K, value: V): void {
    if (young.size >= half) [young, old] = [new Map(), young];
    young.set(key, value);
  }

  return {
    get(key) {
      const fresh = young.get(key);
      if (fresh !== undefined) return fresh;
      const value = old.get(key);
      if (value !== undefined) set(key, value);
      return value;
    },
    set,
  };
}
