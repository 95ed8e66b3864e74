import { DatabaseSync } from 'node:sqlite';
import pg from 'pg';

/** UPDATEs of one row, by their key, each a transaction of its own; prints the CPU time of this process for each, microseconds. */
const [engine, where = ''] = process.argv.slice(2);
const COUNT = 2_000;
const hash = 'h'.repeat(43);
const create = 'create table if not exists bare (id text primary key, hash text, at bigint, generation bigint)';

const update = engine === 'sqlite' ? sqlite(where) : await postgres(where);
for (let i = 0; i < COUNT / 4; i++) await update(i);
const before = process.cpuUsage();
for (let i = 0; i < COUNT; i++) await update(i);
const { user, system } = process.cpuUsage(before);
console.log((user + system) / COUNT);
process.exit();

function sqlite(file: string): (i: number) => unknown {
  const db = new DatabaseSync(file);
  db.exec(`PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; ${create}; insert or ignore into bare values ('one', '', 0, 0)`);
  const statement = db.prepare('update bare set hash = ?, at = ?, generation = generation + 1 where id = ?');
  return (i) => statement.run(hash, i, 'one');
}

async function postgres(url: string): Promise<(i: number) => Promise<unknown>> {
  const db = new pg.Client({ connectionString: url });
  await db.connect();
  await db.query(create);
  await db.query(`insert into bare values ('one', '', 0, 0) on conflict do nothing`);
  return (i) => db.query('update bare set hash = $1, at = $2, generation = generation + 1 where id = $3', [hash, i, 'one']);
}
