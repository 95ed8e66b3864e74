import { aboutMachine } from './machine.ts';
import { type Chart, chartOf } from './chart.ts';
import type { Cost } from './reference.ts';
import type { Results } from './results.ts';

/** What a run found, as pictures: each with a name to keep it by. */
export function chartsOf(found: Results): Record<string, string> {
  const about = [`${aboutMachine(found.machine)}.`, found.command];
  const charts = Object.entries(chartsIn(found));
  return Object.fromEntries(charts.map(([name, chart]) => [name, chartOf({ about, ...chart })]));
}

const UNIT = 'server CPU time a request, × bare node:https; lighter: of its stores';

function chartsIn(found: Results): Record<string, Omit<Chart, 'about'>> {
  switch (found.what) {
    case 'requests':
      return {
        requests: {
          title: 'What a request costs, with every gate at work',
          unit: `${UNIT}; red: at most so much; thin: all rounds`,
          bars: found.rows.map((row) => ({
            ...barOf(row),
            ...(row.bar !== undefined && { bar: row.bar }),
            strong: !row.name.startsWith('bare'),
          })),
        },
      };
    case 'peers':
      return {
        peers: {
          title: 'The same work, side by side',
          unit: `${UNIT}; thin: all rounds`,
          bars: found.rows.map((row) => ({ ...barOf(row), strong: row.isOurs })),
        },
      };
    case 'ladder':
      return Object.fromEntries(
        found.ladders.map((steps, nth) => [
          nth === 0 ? 'ladder' : 'ladder-of-a-refusal',
          {
            title: nth === 0 ? 'What each gate adds to a request' : 'What each gate adds to a refusal',
            unit: 'server CPU time a request, × bare node:https; faint: what is below',
            bars: steps.map(({ name, ratio, adds }) => ({
              name,
              value: ratio.median,
              ...(adds && { from: Math.max(ratio.median - adds.median, 0) }),
              strong: adds !== undefined,
            })),
          },
        ]),
      );
    case 'beside':
    case 'compare':
      return {};
  }
}

const barOf = ({ name, ratio, together }: Cost) => ({
  name,
  value: ratio.median,
  beside: together.median - ratio.median,
  range: [ratio.min, ratio.max] as const,
});
