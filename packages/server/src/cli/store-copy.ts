import type { Copied, OnStep } from '../copy-store.ts';
import { parsePostgresUrl } from '../lib/postgres-url.ts';
import { Mistake } from '../mistake.ts';
import { database } from '../settings/kinds.ts';
import type { Settings } from '../settings/table.ts';
import { command, WrongUsage } from './command.ts';
import type { Column } from './print.ts';

const columns: readonly Column<Copied>[] = [{ key: 'table' }, { key: 'rows', shows: ({ rows }) => rows.toLocaleString('en') }];

export const storeCopy = [
  command({
    name: 'store copy',
    modes: ['admin'],
    settings: 'store',
    options: {
      from: { takes: 'URL', says: 'The store to copy, as in PORTCULLIS_DATABASE_URL.' },
      to: { takes: 'URL', says: 'An empty database, or a file of SQLite that is not there yet.' },
    },
    summary: 'Copy a whole store into an empty one: from SQLite to PostgreSQL, or back',
    about: [
      'Stop the servers of both first: while one runs, nothing is copied. All moves: users, passwords, sessions, keys, audit and counted guesses, so nobody has to log in again, and what was revoked stays so. The master secret must stay the same.',
      'The copy is one transaction: when it is stopped halfway, the target is as empty as before. The source is only read. The password of PostgreSQL comes from PORTCULLIS_DATABASE_PASSWORD_FILE, and never stands in these URLs.',
    ],
    examples: [['store copy --from sqlite:portcullis.db --to postgres://portcullis@db.example.com/portcullis', 'out of one file, for many instances'], ['store copy --from postgres://portcullis@db.example.com/portcullis --to sqlite:back.db', 'and back']],
    columns,
    async does(on, given) {
      const { copyStore } = await import('../copy-store.ts');
      const settings = on.settings();
      const from = storeAt('--from', given.from, settings);
      const to = storeAt('--to', given.to, settings);
      if (from.database.engine === 'postgres' && to.database.engine === 'postgres') throw new Mistake('from PostgreSQL to PostgreSQL its own tools copy: pg_dump and pg_restore');

      const { err } = on.terminal;
      const clear = '\r\x1b[K';
      const show: OnStep = (table, done, of) => { if (err.isTty) err.write(`${clear}${table}: ${done.toLocaleString('en')} of ${of.toLocaleString('en')}`); };
      const copied = await copyStore(from, to, show).finally(() => { if (err.isTty) err.write(clear); });
      on.note('Copied, and counted on both sides. Now PORTCULLIS_DATABASE_URL names the new store; keep servers off the old one, which knows nothing of what happens from here on.');
      return copied;
    },
  }),
];

/** The settings, with another store. */
function storeAt(option: string, url: string | undefined, settings: Settings): Settings {
  if (url === undefined) throw new WrongUsage(`${option} is missing`);
  try {
    const parsed = database.parse(url);
    if (parsed.engine === 'sqlite' && parsed.file === ':memory:') throw new Error('a store in memory ends with its process');
    if (parsed.engine === 'postgres' && parsePostgresUrl(parsed.url).password !== undefined) throw new Error('every process of the machine can read the command line: put the password into PORTCULLIS_DATABASE_PASSWORD_FILE');
    return { ...settings, database: parsed };
  } catch (error) {
    throw error instanceof Error ? new Mistake(`${option}: ${error.message}`) : error;
  }
}
