import type { Kysely } from 'kysely';
import type { RedisMarks } from '../../domain/session/redis-mark.ts';
import type { Locks } from './locks.ts';
import type { Schema } from './schema.ts';
import { sqlSessions } from './sql-sessions.ts';

export function sqlRedisMarks(db: Kysely<Schema>, locks: Locks): RedisMarks {
  return {
    find: () => read(db),

    async renew(before, next, fill) {
      await db.transaction().execute(async (transaction) => {
        // The same value again: it locks the row, on every engine.
        await transaction
          .updateTable('marks')
          .set((eb) => ({ value: eb.ref('value') }))
          .where('name', '=', 'redis')
          .execute();
        const mark = await read(transaction);
        if (mark.generation !== before.generation || mark.run !== before.run) return;
        await fill(mark.keysVersion, sqlSessions(transaction, locks));
        await set(transaction, 'redis', next.generation);
        await set(transaction, 'redis_run', next.run);
      });
    },
  };
}

async function read(db: Kysely<Schema>) {
  const rows = await db.selectFrom('marks').selectAll().where('name', 'in', ['store', 'keys', 'redis', 'redis_run']).execute();
  const valueOf = (name: string): number => rows.find((row) => row.name === name)?.value ?? 0;
  return { generation: valueOf('redis'), run: valueOf('redis_run'), keysVersion: valueOf('keys'), store: valueOf('store') };
}

const set = (db: Kysely<Schema>, name: string, value: number) => db.updateTable('marks').set({ value }).where('name', '=', name).execute();
