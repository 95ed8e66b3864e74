import { DatabaseSync } from 'node:sqlite';
import { join } from 'node:path';
import { setTimeout as wait } from 'node:timers/promises';
import { manualClock } from '@portcullis/guard';
import pg from 'pg';
import type { House } from '../../packages/server/src/house.ts';
import { logout } from '../../packages/server/src/flows/logout.ts';
import { refresh } from '../../packages/server/src/flows/refresh.ts';
import { newId } from '../../packages/server/src/lib/id.ts';
import type { Postgres } from '../../test/support/postgres.ts';
import { type Ending, undoAfter } from '../../test/support/program.ts';
import { type BenchHouse, logIn, openBenchHouse, sender } from './house.ts';
import { gather, ownCpuUs, rounds, type Row, type Slope, threadsCpuUs } from './measure.ts';

const DAY_MS = 86_400_000;
const BATCH = 500;
/** Sessions that have ended in the last quarter of an hour, in every store: how many does not depend on how many there are. */
const LATELY = 3_000;
/** The names that many guess at, and the dead sessions of one user, are in stores of this size. */
const USUAL = 10_000;

type Filled = {
  readonly house: BenchHouse & { readonly clock: ReturnType<typeof manualClock> };
  readonly size: number;
  /** Past the house's own connection. */
  sql(text: string): Promise<any[]>;
  /** CPU time that the store has taken so far; on SQLite it is the process's own. */
  storeCpuUs(): Promise<() => number>;
};

/** What the store costs as it fills: a full PostgreSQL and a full SQLite file for each size. */
export async function storeSlopes(
  t: Ending,
  postgres: Postgres,
  { sizes, times, count }: { sizes: readonly number[]; times: number; count: number },
): Promise<Slope[]> {
  const slopes: Slope[] = [];
  for (const engine of ['PostgreSQL', 'SQLite'] as const) {
    const stores = new Map<number, Filled>();
    for (const size of sizes) stores.set(size, await filled(t, engine === 'PostgreSQL' ? postgres : undefined, size));
    const store = (size: number): Filled => stores.get(size)!;
    const all = [...stores.values()];
    const over = 'sessions, users, audit entries';

    const [own, theirs] = [gather(), gather()];
    await rounds(times, sizes, async (size, at, round) => {
      for (const { name, count: of = count, prepare, one } of operations) {
        const work = await prepare?.(store(size), of, round);
        const cost = await costOf(store(size), of, (i) => one(store(size), i + round * of, work));
        if (engine === 'PostgreSQL') theirs.add(name, at, cost.store);
        own.add(name, at, cost.own);
      }
    });
    if (engine === 'PostgreSQL') {
      slopes.push({ title: engine, over, sizes, unit: 'µs of CPU of its process each', rows: theirs.rows() });
      slopes.push({ title: `${engine}, the instance for it`, over, sizes, unit: 'µs of CPU each', rows: own.rows() });
      if (times > 1)
        slopes.push({ title: engine, over, sizes, unit: 'rows of tables and indexes read each', rows: await rowsRead(all, count, times) });
    } else slopes.push({ title: engine, over, sizes, unit: 'µs of CPU of the server each, the store in it', rows: own.rows() });
    slopes.push({
      title: `Room in ${engine}`,
      over,
      sizes,
      unit: 'bytes a row, with its indexes',
      rows: await roomOf(all, engine),
    });

    const largest = sizes.at(-1) ?? 0;
    const usual = store(sizes.find((size) => size >= USUAL) ?? largest);
    const grown = { sizes: sizes.map((size) => size / 10), times, count: Math.min(count, 15) }; // of one user, too few to end any
    slopes.push(await loginSlope(engine, usual, 'dead sessions of one user', grown, deadOfOne));
    slopes.push(await loginSlope(engine, usual, 'names guessed at within a day', grown, namesGuessed));
    for (const { house } of all) await house.close();
  }
  return slopes;
}

type Operation = {
  readonly name: string;
  readonly count?: number;
  prepare?(on: Filled, count: number, round: number): Promise<unknown>;
  one(on: Filled, i: number, prepared: any): Promise<unknown>; // whatever it has prepared
};

const operations: readonly Operation[] = [
  { name: 'login, without the hash', one: ({ house, size }, i) => logIn(house, `user${1 + ((i * 7_919) % size)}`) },
  { name: 'refresh', prepare: refreshable, one: ({ house }, i, tokens) => refresh(house.services, tokens[i % tokens.length].text, sender) },
  { name: "a session's standing", one: ({ house, size }, i) => house.store.sessions.standing(idOf('ses', 1 + ((i * 7_919) % size))) },
  {
    name: 'logout',
    prepare: async (on, count, round) => livingOnes(on, count, round),
    one: ({ house }, i, ids) => logout(house.services, { sessionId: ids[i % ids.length] }, sender),
  },
  {
    name: 'what ended in the last 30 s (100)',
    one: ({ house }) => house.store.sessions.listRevoked(house.clock.now(), house.clock.now() - 30_000),
  },
  { name: 'what is revoked (3,000)', count: 5, one: ({ house }) => house.store.sessions.listRevoked(house.clock.now()) },
  { name: 'count the living', count: 3, one: ({ house }) => house.store.sessions.countLive(house.clock.now()) },
  { name: 'clear seals, none due', one: ({ house }) => house.store.sessions.clearSeals(house.clock.now() - 10_000) },
  {
    name: 'delete dead sessions, none due',
    count: 10,
    one: ({ house }) => house.store.sessions.deleteDead(house.clock.now() - 7 * DAY_MS - 60_000, BATCH),
  },
  { name: 'delete 500 dead of all', count: 2, one: (on) => undone(on, ({ sessions }) => sessions.deleteDead(on.house.clock.now(), BATCH)) },
  {
    name: 'delete audit, none due',
    count: 10,
    one: ({ house }) => house.store.audit.deleteBefore(house.clock.now() - 401 * DAY_MS, BATCH),
  },
  {
    name: 'delete 500 of all audit',
    count: 2,
    one: (on) => undone(on, ({ audit }) => audit.deleteBefore(on.house.clock.now() - DAY_MS, BATCH)),
  },
  { name: 'look for a demo user (start)', count: 2, one: ({ house }) => house.store.users.findDemo() },
  {
    name: 'sessions list --user',
    count: 10,
    one: ({ house, size }, i) => house.store.sessions.listLive({ userId: idOf('usr', 1 + (i % size)), at: house.clock.now(), limit: 50 }),
  },
  { name: 'sessions list', count: 2, one: ({ house }) => house.store.sessions.listLive({ at: house.clock.now(), limit: 50 }) },
  { name: 'audit list', count: 10, one: ({ house }) => house.store.audit.list({ limit: 50 }) },
  { name: 'audit list --username', count: 2, one: ({ house }) => house.store.audit.list({ limit: 50, username: 'user3' }) },
];

/** Tokens for sessions anywhere in the table. */
async function refreshable(on: Filled, count: number, round: number): Promise<{ text: string }[]> {
  const { house } = on;
  const tokens = livingOnes(on, count, round).map((id) => ({ id, ...house.services.refreshTokens.first(id) }));
  for (const { id, hash } of tokens) await on.sql(`update sessions set current_hash = '${hash}', generation = 0 where id = '${id}'`);
  await house.services.revoked.current();
  return tokens;
}

/** Other ones in each round. They are among the younger half, of which each third has ended. */
function livingOnes({ size }: Filled, count: number, round: number): string[] {
  const half = Math.floor(size / 2);
  const living: string[] = [];
  for (let i = 0; living.length < (round + 1) * count; i++) {
    const nth = size - ((i * 7_919) % half);
    if (nth % 3 !== 0) living.push(idOf('ses', nth));
  }
  return living.slice(-count);
}

/** The cost of a batch, and the batch is there again. */
async function undone({ house }: Filled, work: Parameters<House['services']['together']>[0]): Promise<void> {
  const back = new Error('undone');
  await house.store
    .together(async (stores) => {
      await work(stores);
      throw back;
    })
    .catch((error: unknown) => {
      if (error !== back) throw error;
    });
}

const idOf = (kind: 'usr' | 'ses' | 'aud', i: number): string => `${kind}_0${1_000_000_000_000 + i}${'0'.repeat(18)}`;

async function costOf(on: Filled, count: number, one: (i: number) => Promise<unknown>): Promise<{ own: number; store: number }> {
  await on.house.store.ping();
  const store = await on.storeCpuUs();
  const [own, theirs] = [ownCpuUs(), store()];
  for (let i = 0; i < count; i++) await one(i);
  return { own: (ownCpuUs() - own) / count, store: (store() - theirs) / count };
}

/** Counted by PostgreSQL itself; a process tells what it has read once a second. */
async function rowsRead(stores: readonly Filled[], count: number, times: number): Promise<Row[]> {
  const read = async ({ sql }: Filled): Promise<number> => {
    const [row] = await sql(
      `select cast((select sum(seq_tup_read) from pg_stat_user_tables) + (select sum(idx_tup_read) from pg_stat_user_indexes) as float8) as rows`,
    );
    return row.rows;
  };
  const settled = async (): Promise<void> => {
    await wait(1_100);
    for (const { house } of stores) await house.store.ping();
    await wait(100);
  };
  const rows: Row[] = [];
  await settled();
  let before = await Promise.all(stores.map(read));
  for (const { name, count: of = count, prepare, one } of operations) {
    const prepared = await Promise.all(stores.map((on) => prepare?.(on, of, times)));
    if (prepare) {
      await settled();
      before = await Promise.all(stores.map(read));
    }
    for (const [at, on] of stores.entries()) for (let i = 0; i < of; i++) await one(on, i + times * of, prepared[at]);
    await settled();
    const after = await Promise.all(stores.map(read));
    rows.push({ name, values: stores.map((_, at) => Math.round((after[at]! - before[at]! - 2) / of)) }); // 2 of the pings
    before = after;
  }
  return rows;
}

async function roomOf(stores: readonly Filled[], engine: string): Promise<Row[]> {
  const tables = ['users', 'credentials', 'sessions', 'audit'] as const;
  const bytes = async ({ sql, size }: Filled, table: string): Promise<number> => {
    const [row] = await sql(
      engine === 'PostgreSQL'
        ? `select cast(pg_total_relation_size('${table}') as float8) as bytes, (select count(*)::int from ${table}) as rows`
        : `select (select sum(pgsize) from dbstat where name in (select name from sqlite_schema where tbl_name = '${table}')) as bytes, (select count(*) from ${table}) as rows`,
    );
    return Math.round(row.bytes / Math.max(row.rows, size));
  };
  const rows: Row[] = [];
  for (const table of tables) rows.push({ name: table, values: await Promise.all(stores.map((on) => bytes(on, table))) });
  return rows;
}

/** Something that grows in one store, for each size with users of its own. */
type Grown = { grow(on: Filled, size: number, at: number): Promise<void>; name(on: Filled, i: number, at: number): string };

async function loginSlope(
  engine: string,
  on: Filled,
  over: string,
  { sizes, times, count }: { readonly sizes: readonly number[]; readonly times: number; readonly count: number },
  { grow, name }: Grown,
): Promise<Slope> {
  const all = gather();
  for (const [at, size] of sizes.entries()) {
    await grow(on, size, at);
    for (let round = 0; round < times; round++) {
      const { own, store } = await costOf(on, count, (i) => logIn(on.house, name(on, i + round * count, at)));
      all.add('login, without the hash', at, engine === 'PostgreSQL' ? store : own);
    }
  }
  const unit = engine === 'PostgreSQL' ? 'µs of CPU of its process each' : 'µs of CPU of the server each';
  return { title: engine, over, sizes, unit, rows: all.rows() };
}

/** Somebody who logs in by a program, again and again, and has logged out or was pushed out. */
const deadOfOne: Grown = {
  async grow({ house, sql }, size, at) {
    const now = house.clock.now();
    await sql(`insert into sessions ${sessionColumns} ${numbers(size)}
      select 'ses_1' || cast(1000000000000 + i as text) || '00000000' || cast(${size + 1_000_000_000} as text), '${idOf('usr', 5 + at)}',
        ${now} - 500000000 - i, ${now} - 500000000 - i, ${now} + 100000000 - i, ${now} - 500000000 - i, 0, '${'h'.repeat(43)}',
        ${now} - 499000000, ${now} - 499500000, 'logout', '203.0.113.5', 'bench' from n`);
    await sql('analyze sessions');
  },
  name: (_, __, at) => `user${5 + at}`,
};

/** An attacker goes through names, known or made up. */
const namesGuessed: Grown = {
  async grow({ house, sql }, size) {
    await sql('delete from guesses');
    await sql(`insert into guesses (key, times, keep_until) ${numbers(size)}
      select 'guessed' || cast(1000000000000 + i as text) || '${'0'.repeat(23)}', '[${house.clock.now()}]', ${house.clock.now() + DAY_MS} from n`);
    await sql('analyze guesses');
    house.clock.advance(10_000); // what was counted before is not believed for so long
  },
  name: ({ size }, i) => `user${1 + ((i * 7_919) % size)}`,
};

/** A store with so many of each: sessions over two weeks, the older of which have expired, and audit over 400 days. */
async function filled(t: Ending, postgres: Postgres | undefined, size: number): Promise<Filled> {
  const url = (await postgres?.newDatabase()) ?? 'sqlite:portcullis.db';
  const clock = manualClock(Date.now());
  const house = await openBenchHouse(
    t,
    {
      DATABASE_URL: url,
      ...(postgres && { DATABASE_POOL: '1' }),
      DATABASE_TIMEOUT: '60 s',
    },
    clock,
  );
  const { sql, storeCpuUs } = postgres ? await pastPostgres(t, url) : pastSqlite(t, join(house.folder, 'portcullis.db'));
  for (const text of rowsFor(size, house.clock.now())) await sql(text);
  await sql(postgres ? 'vacuum analyze' : 'analyze');
  await house.services.revoked.current();
  return { house: { ...house, clock }, size, sql, storeCpuUs };
}

async function pastPostgres(t: Ending, url: string): Promise<Pick<Filled, 'sql' | 'storeCpuUs'>> {
  const db = new pg.Client({ connectionString: url, application_name: 'bench' });
  await db.connect();
  undoAfter(t, () => db.end());
  const sql = async (text: string): Promise<any[]> => (await db.query(text)).rows;
  return {
    sql,
    async storeCpuUs() {
      const [row] = await sql(`select pid from pg_stat_activity where datname = current_database() and application_name = 'portcullis'`);
      return () => threadsCpuUs(row.pid);
    },
  };
}

function pastSqlite(t: Ending, file: string): Pick<Filled, 'sql' | 'storeCpuUs'> {
  const db = new DatabaseSync(file, { timeout: 5_000 });
  undoAfter(t, () => db.close());
  return { sql: async (text) => db.prepare(text).all(), storeCpuUs: async () => ownCpuUs };
}

const numbers = (size: number): string =>
  `with recursive n(i) as (select cast(1 as bigint) union all select i + 1 from n where i < ${size})`;

const sessionColumns = `(id, user_id, created_at, authenticated_at, expires_at, last_used_at, generation, current_hash, access_until, ended_at, ended_because, address, user_agent)`;

/** Both engines read it. Ids are as long as ours, and sort by time as ours do. */
function rowsFor(size: number, now: number): string[] {
  const id = (kind: string, i = 'i'): string => `'${kind}_0' || cast(1000000000000 + ${i} as text) || '${'0'.repeat(18)}'`;
  const hash = 'h'.repeat(43);
  const password = `$argon2id$v=19$m=19456,t=2,p=1$${'s'.repeat(22)}$${hash}`;
  const agent = 'Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0';
  const age = `${14 * DAY_MS} / ${size} * (${size} - i)`;
  const hasEnded = `i % 3 = 0 and created_at < ${now - DAY_MS} and created_at > ${now - 7 * DAY_MS}`;
  return [
    `insert into users (id, username, username_key, created_at, disabled_at, is_demo) ${numbers(size)}
      select ${id('usr')}, 'user' || i, 'user' || i, ${now - 15 * DAY_MS}, null, 0 from n`,
    `insert into credentials (user_id, kind, secret_hash, version, changed_at) ${numbers(size)}
      select ${id('usr')}, 'password', '${password}', 1, ${now - 15 * DAY_MS} from n`,
    `insert into sessions ${sessionColumns} ${numbers(size)}, dated as (select i, ${now} - ${age} as created_at from n)
      select ${id('ses')}, ${id('usr', `(i * 7919 % ${size} + 1)`)}, created_at, created_at, created_at + ${7 * DAY_MS}, created_at, 0, '${hash}',
        created_at + 4500000, case when ${hasEnded} then created_at + 3600000 end, case when ${hasEnded} then 'logout' end, '203.0.113.5', '${agent}' from dated`,
    `insert into sessions ${sessionColumns} ${numbers(LATELY)}
      select 'ses_1' || cast(1000000000000 + i as text) || '${'9'.repeat(18)}', ${id('usr', `(i * 7919 % ${size} + 1)`)}, ${now} - 3600000, ${now} - 3600000, ${now + 6 * DAY_MS},
        ${now} - 3600000, 0, '${hash}', ${now} - i * 300 + 901000, ${now} - i * 300, 'logout', '203.0.113.5', '${agent}' from n`,
    `insert into audit (id, at, action, by, user_id, username, session_id, address, request_id, reason, count) ${numbers(size)}
      select ${id('aud')}, ${now} - ${400 * DAY_MS} / ${size} * (${size} - i), 'login', 'user', ${id('usr')}, 'user' || i, ${id('ses')},
        '203.0.113.5', '${newId('audit').slice(4)}0000', null, 1 from n`,
  ];
}
