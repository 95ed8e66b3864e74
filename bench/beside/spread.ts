import type { BesideLine } from '../beside-line.ts';
import { median } from '../scale/measure.ts';

/** A line of what was measured several times: the median, and how far it went. */
export function spread(name: string, unit: string, values: readonly number[], more: { bar?: number; note?: string } = {}): BesideLine {
  const value = median(values);
  const { bar } = more;
  return {
    name,
    value,
    min: Math.min(...values),
    max: Math.max(...values),
    unit,
    ...more,
    ...(bar !== undefined && { holds: value <= bar }),
  };
}

/** So many times one after another. */
export async function times<T>(count: number, one: (round: number) => Promise<T>): Promise<T[]> {
  const all: T[] = [];
  for (let round = 0; round < count; round++) all.push(await one(round));
  return all;
}
