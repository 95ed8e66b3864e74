import { parseArgs } from 'node:util';
import { stores } from './rows.ts';
import { mixedLoad } from './mixed-load.ts';
import { report } from './report.ts';

/** `node test/faults/soak.ts [--minutes N]`: row 14 of the table, which takes an hour. */
const { values } = parseArgs({ options: { json: { type: 'boolean', default: false }, minutes: { type: 'string', default: '60' } } });
const each = (figure: string, most: number) => ['SQLite', 'PostgreSQL'].map((store) => [`${store}: ${figure}`, most] as const);
await report(
  [
    {
      no: 14,
      fault: 'mixed load for a long time, on SQLite and on PostgreSQL with Redis (rounds are minutes)',
      rounds: Number(values.minutes),
      bar: 'after the first third, the heap grows by less than 1 MiB in ten minutes, and handles stay as many as they were',
      within: Object.fromEntries([...each('heap KiB more in 10 min', 1_024), ...each('handles more', 2)]),
      needs: stores,
      make: mixedLoad,
    },
  ],
  { json: values.json },
);
