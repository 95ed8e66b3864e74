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
    ['CPU µs a request', ref, 'now', 'now ÷ then', '19 times of 20', ''],
    ...compared.map(({ name, cpuUs: [then, now], ratio: { median, sure } }): Cell[] => [
      name,
      then.median.toFixed(1),
      now.median.toFixed(1),
      median.toFixed(3),
      sure.map((side) => side.toFixed(2)).join('..'),
      sure[1] < 1 ? { text: 'cheaper', as: 'good' } : sure[0] > 1 ? { text: 'dearer', as: 'bad' } : { text: 'the same', as: 'quiet' },
    ]),
  ]);
}
