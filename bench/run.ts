import { writeFileSync } from 'node:fs';
import { parseArgs } from 'node:util';
import { withBench } from './bench.ts';
import { type Compared, compare } from './compare.ts';
import { type Cell, tableOf } from './table.ts';

const { values } = parseArgs({
  options: {
    compare: { type: 'string' },
    only: { type: 'string' },
    rounds: { type: 'string' },
    json: { type: 'string' },
  },
});
const rounds = values.rounds === undefined ? undefined : Number(values.rounds);

await withBench(async (bench) => {
  if (values.compare !== undefined) {
    const compared = await compare(bench, values.compare, {
      ...(rounds && { rounds }),
      ...(values.only !== undefined && { only: values.only }),
    });
    console.log(comparedTable(compared, values.compare));
    if (values.json !== undefined) writeFileSync(values.json, `${JSON.stringify(compared, undefined, 2)}\n`);
  }
});

function comparedTable(compared: readonly Compared[], ref: string): string {
  return tableOf([
    ['CPU µs a request', ref, 'now', 'now ÷ then', 'half within', 'cheaper in'],
    ...compared.map(({ name, cpuUs: [then, now], ratio, cheaper }): Cell[] => {
      return [
        name,
        then.median.toFixed(1),
        now.median.toFixed(1),
        ratio.median.toFixed(3),
        ratio.quarters.map((q) => q.toFixed(2)).join('..'),
        String(cheaper),
      ];
    }),
  ]);
}
