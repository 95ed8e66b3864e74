import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { recentMap } from '../src/recent-map.ts';

test('what was set is found, what was not is not', () => {
  const map = recentMap<string, number>(10);
  map.set('a', 1);
  map.set('a', 2);
  assert.equal(map.get('a'), 2);
  assert.equal(map.get('b'), undefined);
  assert.equal(map.get('__proto__'), undefined);
});

test('whatever is done to it: at most its size is held, each with its last value, and the half used last is among them', () => {
  const step = fc.record({ act: fc.constantFrom('get', 'set'), key: fc.nat({ max: 30 }) });
  fc.assert(
    fc.property(fc.integer({ min: 2, max: 20 }), fc.array(step, { maxLength: 200 }), (size, steps) => {
      const map = recentMap<number, number>(size);
      const last = new Map<number, number>();
      let used: number[] = [];
      for (const [value, { act, key }] of steps.entries()) {
        if (act === 'set') map.set(key, value);
        if (act === 'set') last.set(key, value);
        else if (map.get(key) === undefined) continue;
        used = [key, ...used.filter((other) => other !== key)];
        assert.equal(map.get(key), last.get(key));
      }
      for (const key of used.slice(0, Math.floor(size / 2))) assert.equal(map.get(key), last.get(key), `${key} was used lately`);
    }),
  );

  fc.assert(
    fc.property(fc.integer({ min: 2, max: 20 }), fc.array(fc.nat({ max: 60 }), { maxLength: 200 }), (size, keys) => {
      const map = recentMap<number, number>(size);
      for (const key of keys) map.set(key, key);
      // Looking moves things about, so each key is looked for in a map of its own.
      const held = [...new Set(keys)].filter((wanted) => {
        const again = recentMap<number, number>(size);
        for (const key of keys) again.set(key, key);
        return again.get(wanted) !== undefined;
      });
      assert.ok(held.length <= size, `${held.length} of ${size}`);
    }),
  );
});
