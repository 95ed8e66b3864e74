import type { Kysely } from 'kysely';
import type { Schema } from './schema.ts';

/** The processes that share a store, as each says every few seconds that it lives. */
export interface Instances {
  /** @returns how many live, this one among them. */
  beat(id: string, at: number): Promise<number>;
  leave(id: string): Promise<void>;
}

/** Who has not been heard of for so long lives no more. */
const ALIVE_MS = 30_000;

export function sqlInstances(db: Kysely<Schema>): Instances {
  return {
    async beat(id, at) {
      await db
        .insertInto('instances')
        .values({ id, seen_at: at })
        .onConflict((conflict) => conflict.column('id').doUpdateSet({ seen_at: at }))
        .execute();
      await db
        .deleteFrom('instances')
        .where('seen_at', '<', at - 10 * ALIVE_MS)
        .execute();
      const { living } = await db
        .selectFrom('instances')
        .select(({ fn }) => fn.countAll<number>().as('living'))
        .where('seen_at', '>', at - ALIVE_MS)
        .executeTakeFirstOrThrow();
      return Number(living);
    },

    async leave(id) {
      await db.deleteFrom('instances').where('id', '=', id).execute();
    },
  };
}
