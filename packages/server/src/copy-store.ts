import { dirname } from 'node:path';
import { systemClock } from '@portcullis/guard';
import { ownFolder } from './lib/files.ts';
import { Mistake, openDatabase } from './mistake.ts';
import { firstOf, isNewStore, openStoreAt, storeFile, storeName, tablesOfStore } from './open-database.ts';
import type { Settings } from './settings/table.ts';
import { lockForServer } from './storage/sql/server-lock.ts';
import type { SqlStore } from './storage/sql/sql-store.ts';
import { type RowReader, type RowWriter, type StoredRow, type TableName, tableNames } from './storage/sql/transfer.ts';
import { HOUSE } from './take-turns.ts';

export type Copied = { readonly table: TableName; readonly rows: number };
/** Told now and then how far the copy is. */
export type OnStep = (table: TableName, done: number, of: number) => void;

/** Large enough that the way there and back does not count, small enough for the bounds of both engines on what one statement takes. */
const BATCH = 1_000;

/**
 * Copies all of a store into an empty one, on the same engine or another. Both are kept from servers meanwhile. The target
 * is filled in one transaction, and only if its counts are those of the source: else, and when this is killed, it stays empty.
 * @throws {Mistake} where one of them is not as it must be; nothing was copied then.
 */
export async function copyStore(from: Settings, to: Settings, onStep: OnStep = () => {}): Promise<readonly Copied[]> {
  await using held = new AsyncDisposableStack();
  if (isNewStore(from)) throw new Mistake(`--from: there is no store at ${storeName(from)}`);
  if (storeName(from) === storeName(to)) throw new Mistake('--to: this is the store of --from');
  lock('--from', from, held);
  const source = await openHeld(from, held);
  const state = await tablesOfStore(from, source);
  if (state.some(({ ranAt }) => !ranAt))
    throw new Mistake(`--from: the store ${storeName(from)} is not of this version: "portcullis migrate" brings it up to it`);
  await assertNoServer('--from', from, source);

  const file = storeFile(to);
  if (file !== undefined) ownFolder(dirname(file));
  lock('--to', to, held);
  const target = await openHeld(to, held);
  const isDue = (await tablesOfStore(to, target)).map(({ ranAt }) => !ranAt);
  if (isDue.some(Boolean) && !isDue.every(Boolean))
    throw new Mistake(`--to: the store ${storeName(to)} is of another version, and not empty: name a new database`);
  await firstOf(to, target.migrate());
  await assertNoServer('--to', to, target);

  return await source.transfer.reading((reader) =>
    target.transfer.filling(async (writer) => {
      const copied = await copyRows(reader, writer, storeName(to), onStep);
      await assertNoServer('--from', from, source); // one that began meanwhile may have ended what lives in the copy
      return copied;
    }),
  );
}

async function copyRows(from: RowReader, to: RowWriter, name: string, onStep: OnStep): Promise<readonly Copied[]> {
  for (const table of tableNames)
    if (table !== 'marks' && (await to.count(table)) > 0)
      throw new Mistake(`--to: the store ${name} is not empty (it has ${table}), and a copy overwrites nothing: name a new database`);
  const copied: Copied[] = [];
  for (const table of tableNames) {
    const rows = await from.count(table);
    await copyTable(from, to, table, (done) => onStep(table, done, rows));
    const arrived = await to.count(table);
    if (arrived !== rows) throw new Mistake(`of ${rows} ${table}, ${arrived} arrived: nothing was kept of the copy`);
    copied.push({ table, rows });
  }
  return copied;
}

async function copyTable(from: RowReader, to: RowWriter, table: TableName, onStep: (done: number) => void): Promise<void> {
  let last: StoredRow | undefined;
  for (let done = 0; ;) {
    const rows = await from.next(table, last, BATCH);
    await to.add(table, rows);
    onStep((done += rows.length));
    last = rows.at(-1);
    if (rows.length < BATCH) return;
  }
}

/** What a server keeps in memory of a store would be wrong beside a copy, and what it writes would not be in it. */
function lock(option: string, settings: Settings, held: AsyncDisposableStack): void {
  const file = storeFile(settings);
  if (file === undefined) return;
  const unlock = openDatabase(`${file}.lock`, () => lockForServer(file));
  if (!unlock) throw new Mistake(`${option}: a server is running on ${file}: stop it first`);
  held.defer(unlock);
}

async function assertNoServer(option: string, settings: Settings, { leases, time }: SqlStore): Promise<void> {
  const at = (await time?.()) ?? systemClock().now();
  if (!(await leases?.isHeld(HOUSE, at))) return;
  throw new Mistake(
    `${option}: a server is running on ${storeName(settings)}: stop all of them first; of one that was killed, this is forgotten within ten seconds`,
  );
}

async function openHeld(settings: Settings, held: AsyncDisposableStack): Promise<SqlStore> {
  const store = await openStoreAt(settings);
  held.defer(store.close);
  return store;
}
