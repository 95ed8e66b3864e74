import type { Kysely } from 'kysely';
import type { Schema } from './schema.ts';

/** Who of several processes does a work for all of them: one at a time, and another once that one is silent. */
export interface Leases {
  /** Takes the lease where nobody has it, or it has run out; or holds it for longer. @returns whether it is this holder's. */
  take(name: string, holder: string, at: number, until: number): Promise<boolean>;
  /** Gives back what this holder has. */
  leave(name: string, holder: string): Promise<void>;
  /** Whether anybody has it. */
  isHeld(name: string, at: number): Promise<boolean>;
}

export function sqlLeases(db: Kysely<Schema>): Leases {
  return {
    async take(name, holder, at, until) {
      const taken = await db
        .insertInto('leases')
        .values({ name, holder, until })
        .onConflict((conflict) =>
          conflict
            .column('name')
            .doUpdateSet({ holder, until })
            .where((eb) => eb.or([eb('leases.holder', '=', holder), eb('leases.until', '<=', at)])),
        )
        .returning('holder')
        .executeTakeFirst();
      return taken !== undefined;
    },

    async leave(name, holder) {
      await db.deleteFrom('leases').where('name', '=', name).where('holder', '=', holder).execute();
    },

    isHeld: async (name, at) =>
      (await db.selectFrom('leases').select('holder').where('name', '=', name).where('until', '>', at).executeTakeFirst()) !== undefined,
  };
}
