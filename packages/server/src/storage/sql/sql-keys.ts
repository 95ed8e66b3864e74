import { type Algorithm, algorithms } from '@portcullis/guard';
import { type Kysely, sql } from 'kysely';
import type { Keys, StoredKey } from '../../domain/key/key.ts';
import type { Locks } from './locks.ts';
import type { Schema } from './schema.ts';

export function sqlKeys(db: Kysely<Schema>, locks: Locks): Keys {
  /**
   * One at a time, and told to every process that shares the store: in the same transaction, so that none hears of it too early
   * or never. Of what changed nothing nobody is told: until all have looked, they ask the store about each session.
   */
  function change<T>(work: (db: Kysely<Schema>) => Promise<readonly [T, rows: bigint]>): Promise<T> {
    const alone = async (transaction: Kysely<Schema>): Promise<T> => {
      await locks.keys?.execute(transaction);
      const [result, rows] = await work(transaction);
      if (rows === 0n) return result;
      await transaction
        .updateTable('marks')
        .set((eb) => ({ value: eb('value', '+', 1) }))
        .where('name', '=', 'keys')
        .execute();
      return result;
    };
    return db.isTransaction ? alone(db) : db.transaction().execute(alone);
  }

  return {
    add: (key, unless) =>
      change(async (transaction) => {
        const noneBegins = unless
          ? sql`and not exists (select 1 from keys where compromised_at is null and active_from > ${unless.after} and active_from <= ${unless.until})`
          : sql``;
        const { numAffectedRows } = await sql`
        insert into keys (kid, alg, origin, created_at, active_from, public_jwk, sealed_private_jwk)
        select ${key.kid}, ${key.alg}, ${key.origin}, cast(${key.createdAt} as bigint), cast(${key.activeFrom} as bigint),
          ${key.publicJwk ?? null}, ${key.sealedPrivateJwk}
        where not exists (select 1 from keys where kid = ${key.kid}) ${noneBegins}`.execute(transaction);
        return [numAffectedRows === 1n ? 'added' : 'present', numAffectedRows ?? 0n];
      }),

    version: async () => (await db.selectFrom('marks').select('value').where('name', '=', 'keys').executeTakeFirst())?.value ?? 0,

    async list() {
      // A compromised key stands before the one that has taken its place, and its time.
      const rows = await db
        .selectFrom('keys')
        .selectAll()
        .orderBy('active_from')
        .orderBy(sql`compromised_at is null`)
        .orderBy('kid')
        .execute();
      return rows.map((row): StoredKey => ({
        kid: row.kid,
        alg: algorithmOf(row.alg),
        origin: row.origin === 'imported' ? 'imported' : 'made',
        createdAt: row.created_at,
        activeFrom: row.active_from,
        publicJwk: row.public_jwk ?? undefined,
        sealedPrivateJwk: row.sealed_private_jwk,
        compromisedAt: row.compromised_at ?? undefined,
      }));
    },

    remove: (kid) =>
      change(async (transaction) => {
        const { numDeletedRows } = await transaction
          .deleteFrom('keys')
          .where('kid', '=', kid)
          .where('compromised_at', 'is', null)
          .executeTakeFirst();
        return [undefined, numDeletedRows];
      }),

    compromise: (kid, at) =>
      change(async (transaction) => {
        const { numUpdatedRows } = await transaction
          .updateTable('keys')
          .set({ compromised_at: at, public_jwk: null, sealed_private_jwk: '' })
          .where('kid', '=', kid)
          .where('compromised_at', 'is', null)
          .executeTakeFirst();
        if (numUpdatedRows > 0n) return ['compromised', numUpdatedRows];
        const isThere = await transaction.selectFrom('keys').select('kid').where('kid', '=', kid).executeTakeFirst();
        return [isThere ? 'already' : 'unknown', 0n];
      }),

    reseal: (kid, from, to) =>
      change(async (transaction) => {
        const { numUpdatedRows } = await transaction
          .updateTable('keys')
          .set({ sealed_private_jwk: to })
          .where('kid', '=', kid)
          .where('sealed_private_jwk', '=', from)
          .executeTakeFirst();
        return [numUpdatedRows > 0n ? 'resealed' : 'changed', numUpdatedRows];
      }),
  };
}

function algorithmOf(text: string): Algorithm {
  const alg = algorithms.find((known) => known === text);
  if (!alg) throw new Error(`the store has a key for ${text}, which this version does not know`);
  return alg;
}
