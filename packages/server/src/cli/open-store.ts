import { dirname } from 'node:path';
import { systemClock } from '@portcullis/guard';
import { type Desk, openDesk } from '../desk.ts';
import { demoSecret } from '../demo.ts';
import { ownFolder } from '../lib/files.ts';
import { Mistake } from '../mistake.ts';
import { isNewStore, storeFile, storeName, tablesOfStore } from '../open-database.ts';
import type { Settings } from '../settings/table.ts';
import { clockOfStore } from '../steer-clock.ts';

export type OpenStore = {
  /** Where there is none yet, make one. */
  readonly make?: true;
  /** Take one whose tables are of an older version, and leave a new one without tables. */
  readonly anyVersion?: true;
};

/** Whose store it is: a demo's is marked as one when it is made, so that `dev` takes it and `serve` does not. */
export type StoreOf = 'demo' | 'operator';

/**
 * Opens the store for an operator, beside its server or without one. It never makes one by accident, where a path was
 * mistyped, and never changes the tables under an older server.
 * @throws {Mistake} when there is none, or one of an older version.
 */
export async function openStore(settings: Settings, { make, anyVersion }: OpenStore, of: StoreOf, note: (text: string) => void): Promise<Desk> {
  const name = storeName(settings);
  const isNew = isNewStore(settings);
  if (name === ':memory:') throw new Mistake("PORTCULLIS_DATABASE_URL: a store in memory is its server's alone, nobody else can look into it");
  if (isNew && !make) throw new Mistake(noStoreAt(name));
  if (isNew) for (const folder of [dirname(name), settings.dataDir]) ownFolder(folder);
  if (isNew && of === 'demo') demoSecret(settings.dataDir);
  await using held = new AsyncDisposableStack();
  const { clock, look } = clockOfStore(systemClock(), { warn: (_, text) => note(text), error: (_, text) => note(text) });
  const desk = await openDesk({ settings, clock });
  held.defer(desk.close);
  if (isNew) note(`Made a store: ${name}`);
  const all = await tablesOfStore(settings, desk.store);
  if (desk.store.time) await look(desk.store.time); // what an operator writes has the time of all who share the store
  const isEmpty = all.every(({ ranAt }) => !ranAt);
  if (make && isEmpty && !anyVersion) await desk.store.migrate();
  else if (!anyVersion && all.some(({ ranAt }) => !ranAt))
    throw new Mistake(`the store ${name} is not of this version: "portcullis migrate" brings it up to it`);
  held.move();
  return desk;
}

/** The file of a store that is there. @throws {Mistake} when it is not, or is none. */
export function fileOfStore(settings: Settings): string {
  const file = storeFile(settings);
  if (file === undefined) throw new Mistake('PostgreSQL is backed up by its own tools: pg_dump, or the base backups of its host');
  if (isNewStore(settings)) throw new Mistake(noStoreAt(file));
  return file;
}

/** Whether there is a file of a store, so that it can be asked before anything is made. */
export const hasStore = (settings: Settings): boolean => storeFile(settings) !== undefined && !isNewStore(settings);

const noStoreAt = (file: string): string =>
  `there is no store at ${file}: name its folder with --data-dir or PORTCULLIS_DATA_DIR, or say --dev for the demo's; "users add" and "migrate" make a new one`;
