import { availableParallelism } from 'node:os';
import { parseArgs } from 'node:util';
import { startPostgres } from '../test/support/postgres.ts';
import { type Slope, tableOf } from './scale/measure.ts';
import { storeSlopes } from './scale/stores.ts';

const {
  values: { json, smallest },
  positionals,
} = parseArgs({
  allowPositionals: true,
  options: { json: { type: 'boolean', default: false }, smallest: { type: 'boolean', default: false } },
});
await using held = new AsyncDisposableStack();
const t = { after: (work: () => Promise<void> | void) => held.defer(async () => work()) };
const postgres = await startPostgres();
t.after(postgres.stop);
const sizes = (process.env.SIZES ?? '1000,10000').split(',').map(Number);
for (const slope of await storeSlopes(t, postgres, { sizes, times: 3, count: 20 })) console.log(tableOf(slope) + '\n');
