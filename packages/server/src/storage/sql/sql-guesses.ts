import type { Kysely, Selectable } from 'kysely';
import { attemptsIn, type Guesses, type GuessPlace, judge } from '../../domain/guess/guess.ts';
import type { Schema } from './schema.ts';

type Row = Selectable<Schema['guesses']>;

/** How many rows there are, as it was last found out; what this process has added since is counted on. */
export type GuessRows = { rows: number; countedAt: number };

/** @param known one for the whole store. */
export function sqlGuesses(db: Kysely<Schema>, known: GuessRows): Guesses {
  const findRow = (key: string) => db.selectFrom('guesses').selectAll().where('key', '=', key).executeTakeFirst();

  async function find({ key, overflow }: GuessPlace): Promise<{ own: Row | undefined; shared: Row | undefined }> {
    const keys = overflow ? [key, overflow.key] : [key];
    const rows = await db.selectFrom('guesses').selectAll().where('key', 'in', keys).execute();
    const own = rows.find((row) => row.key === key);
    return { own, shared: rows.find((row) => row !== own) };
  }

  async function hasRoom({ overflow }: GuessPlace, at: number): Promise<boolean> {
    if (!overflow) return true;
    if (at < known.countedAt || at >= known.countedAt + Math.floor(known.rows / ROWS_A_MS)) {
      const { rows } = await db
        .selectFrom('guesses')
        .select(({ fn }) => fn.countAll<number>().as('rows'))
        .executeTakeFirstOrThrow();
      Object.assign(known, { rows: Number(rows), countedAt: at });
    }
    return known.rows < overflow.beyond;
  }

  /**
   * In place of the row as it was read, one statement. False when it is not that any more: whoever is told so reads it
   * anew. That ends: for each who is late another was in time, and a budget has only so many.
   */
  async function replace(read: Row | undefined, { key, times, keep_until }: Row): Promise<boolean> {
    if (!read) {
      const { numInsertedOrUpdatedRows } = await db
        .insertInto('guesses')
        .values({ key, times, keep_until })
        .onConflict((conflict) => conflict.doNothing())
        .executeTakeFirst();
      if (numInsertedOrUpdatedRows === 1n) known.rows += 1;
      return numInsertedOrUpdatedRows === 1n;
    }
    const { numUpdatedRows } = await db
      .updateTable('guesses')
      .set({ times, keep_until })
      .where('key', '=', key)
      .where('times', '=', read.times)
      .executeTakeFirst();
    return numUpdatedRows === 1n;
  }

  return {
    async take(place, at) {
      for (;;) {
        const { own, shared } = await find(place);
        const judged = judge(timesOf(own ?? shared), place.budget, at);
        if ('retryAt' in judged) return judged;
        const isOwn = own !== undefined || (await hasRoom(place, at));
        const guess = { key: isOwn ? place.key : (place.overflow?.key ?? place.key), at: judged.times.at(-1) ?? at };
        const row = { key: guess.key, times: JSON.stringify(judged.times), keep_until: guess.at + place.budget.windowMs };
        if (await replace(isOwn ? own : shared, row)) return guess;
      }
    },

    async giveBack({ key, at }) {
      for (;;) {
        const row = await findRow(key);
        const times = timesOf(row);
        if (!row || !times.includes(at)) return;
        if (await replace(row, { ...row, times: JSON.stringify(times.toSpliced(times.indexOf(at), 1)) })) break;
      }
      // Else whoever logs in would have a row for a day, and few would be left for others.
      await db.deleteFrom('guesses').where('key', '=', key).where('times', '=', '[]').execute();
    },

    async clear(place, at) {
      const { own, shared } = await find(place);
      // Not deleted: without a row of one's own, those that were counted with others' would count again.
      const none = { times: '[]', keep_until: at + place.budget.windowMs };
      await db
        .insertInto('guesses')
        .values({ key: place.key, ...none })
        .onConflict((conflict) => conflict.column('key').doUpdateSet(none))
        .execute();
      return attemptsIn(timesOf(own ?? shared), place.budget, at).length;
    },

    async deleteDead(now, limit) {
      const dead = db.selectFrom('guesses').select('key').where('keep_until', '<=', now).limit(limit);
      const { numDeletedRows } = await db.deleteFrom('guesses').where('key', 'in', dead).executeTakeFirst();
      return Number(numDeletedRows);
    },
  };
}

/** A hundred thousand rows are counted once a second, which takes a hundredth of it; fewer than so many each time. */
const ROWS_A_MS = 100;

const timesOf = (row: Row | undefined): number[] => (row ? (JSON.parse(row.times) as number[]) : []); // as it was written above
