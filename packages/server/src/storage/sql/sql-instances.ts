import type { Kysely } from 'kysely';
import { ALIVE_MS, type Instances } from '../../domain/instance/instance.ts';
import type { Schema } from './schema.ts';

export function sqlInstances(db: Kysely<Schema>): Instances {
  return {
    async beat({ id, seenAt, keysVersion }) {
      const said = { seen_at: seenAt, keys_version: keysVersion };
      await db
        .insertInto('instances')
        .values({ id, ...said })
        .onConflict((conflict) => conflict.column('id').doUpdateSet(said))
        .execute();
      await db
        .deleteFrom('instances')
        .where('seen_at', '<', seenAt - 10 * ALIVE_MS)
        .execute();
      const { living } = await db
        .selectFrom('instances')
        .select(({ fn }) => fn.countAll<number>().as('living'))
        .where('seen_at', '>', seenAt - ALIVE_MS)
        .executeTakeFirstOrThrow();
      return Number(living);
    },

    async remove(id) {
      await db.deleteFrom('instances').where('id', '=', id).execute();
    },

    async list(at) {
      const rows = await db
        .selectFrom('instances')
        .selectAll()
        .where('seen_at', '>', at - ALIVE_MS)
        .orderBy('id')
        .execute();
      return rows.map((row) => ({ id: row.id, seenAt: row.seen_at, keysVersion: row.keys_version }));
    },
  };
}
