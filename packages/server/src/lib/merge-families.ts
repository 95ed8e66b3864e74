import type { Buckets, Family, Labels, Sample } from './exposition.ts';

/** What becomes of the gauges of several processes; counters and histograms are always summed up. */
export type GaugeRule = 'sum' | 'least' | 'most';

/** The metrics of several processes as those of one: by name and labels, in the order in which they first come. */
export function mergeFamilies(all: readonly (readonly Family[])[], ruleOf: (gauge: string) => GaugeRule): Family[] {
  const byName = Map.groupBy(all.flat(), ({ name }) => name);
  return Array.from(byName.values(), ([first, ...others]): Family => {
    if (first === undefined) throw new Error('a group has a first');
    if (first.type === 'histogram') {
      return {
        ...first,
        samples: mergeSamples(
          [first, ...others].flatMap((one) => (one.type === 'histogram' ? one.samples : [])),
          addBuckets,
        ),
      };
    }
    const combine = first.type === 'counter' ? rules.sum : rules[ruleOf(first.name)];
    return {
      ...first,
      samples: mergeSamples(
        [first, ...others].flatMap((one) => (one.type === 'histogram' ? [] : one.samples)),
        combine,
      ),
    };
  });
}

const rules: Readonly<Record<GaugeRule, (a: number, b: number) => number>> = { sum: (a, b) => a + b, least: Math.min, most: Math.max };

function mergeSamples<Value>(samples: readonly Sample<Value>[], combine: (a: Value, b: Value) => Value): Sample<Value>[] {
  const merged = new Map<string, { labels: Labels; value: Value }>();
  for (const { labels = {}, value } of samples) {
    const key = JSON.stringify(labels);
    const known = merged.get(key);
    if (known) known.value = combine(known.value, value);
    else merged.set(key, { labels, value });
  }
  return [...merged.values()];
}

/** Of histograms with the same bounds, which those of one version are. */
const addBuckets = (a: Buckets, b: Buckets): Buckets => ({
  cumulated: a.cumulated.map(([upTo, count], i) => [upTo, count + (b.cumulated[i]?.[1] ?? 0)] as const),
  sum: a.sum + b.sum,
});
