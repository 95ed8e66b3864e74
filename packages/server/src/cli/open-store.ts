import { statSync } from 'node:fs';
import { dirname } from 'node:path';
import { databaseFile, type Desk, openDesk } from '../desk.ts';
import { demoSecret } from '../demo.ts';
import { ownFolder } from '../lib/files.ts';
import { Mistake } from '../mistake.ts';
import type { Settings } from '../settings/table.ts';

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
  const file = make ? notMemory(databaseFile(settings)) : storeFile(settings);
  const isNew = !isThere(file);
  if (isNew) for (const folder of [dirname(file), settings.dataDir]) ownFolder(folder);
  if (isNew && of === 'demo') demoSecret(settings.dataDir);
  const desk = openDesk({ settings });
  if (isNew) note(`Made a store: ${file}`);
  if (anyVersion) return desk;
  if (isNew) await desk.store.migrate();
  const due = (await desk.store.migrations()).filter(({ ranAt }) => !ranAt);
  if (due.length === 0) return desk;
  await desk.close();
  throw new Mistake(`the store ${file} is not of this version: "portcullis migrate" brings it up to it`);
}

/** Where the store is. @throws {Mistake} when it is not there. */
export function storeFile(settings: Settings): string {
  const file = notMemory(databaseFile(settings));
  if (!isThere(file)) throw new Mistake(`there is no store at ${file}: name its folder with --data-dir or PORTCULLIS_DATA_DIR, or say --dev for the demo's; "users add" and "migrate" make a new one`);
  return file;
}

/** Whether there is a store, so that it can be asked before anything is made. */
export const hasStore = (settings: Settings): boolean => isThere(notMemory(databaseFile(settings)));

const isThere = (file: string): boolean => statSync(file, { throwIfNoEntry: false }) !== undefined;

function notMemory(file: string): string {
  if (file === ':memory:') throw new Mistake("PORTCULLIS_DATABASE_URL: a store in memory is its server's alone, nobody else can look into it");
  return file;
}
