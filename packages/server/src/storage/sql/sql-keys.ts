import { type Algorithm, algorithms } from '@portcullis/guard';
import { type Kysely, sql } from 'kysely';
import type { Keys, StoredKey } from '../../domain/key/key.ts';
import type { Schema } from './schema.ts';

export function sqlKeys(db: Kysely<Schema>): Keys {
  return {
    async add(key, unless) {
      const noneBegins = unless
        ? sql`and not exists (select 1 from keys where compromised_at is null and active_from > ${unless.after} and active_from <= ${unless.until})`
        : sql``;
      const { numAffectedRows } = await sql`
        insert into keys (kid, alg, origin, created_at, active_from, public_jwk, sealed_private_jwk)
        select ${key.kid}, ${key.alg}, ${key.origin}, cast(${key.createdAt} as bigint), cast(${key.activeFrom} as bigint),
          ${key.publicJwk ?? null}, ${key.sealedPrivateJwk}
        where not exists (select 1 from keys where kid = ${key.kid}) ${noneBegins}`.execute(db);
      return numAffectedRows === 1n ? 'added' : 'present';
    },

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

    async remove(kid) {
      await db.deleteFrom('keys').where('kid', '=', kid).where('compromised_at', 'is', null).execute();
    },

    async compromise(kid, at) {
      const { numUpdatedRows } = await db
        .updateTable('keys')
        .set({ compromised_at: at, public_jwk: null, sealed_private_jwk: '' })
        .where('kid', '=', kid)
        .where('compromised_at', 'is', null)
        .executeTakeFirst();
      if (numUpdatedRows > 0n) return 'compromised';
      return (await db.selectFrom('keys').select('kid').where('kid', '=', kid).executeTakeFirst()) ? 'already' : 'unknown';
    },

    async reseal(kid, from, to) {
      const { numUpdatedRows } = await db
        .updateTable('keys')
        .set({ sealed_private_jwk: to })
        .where('kid', '=', kid)
        .where('sealed_private_jwk', '=', from)
        .executeTakeFirst();
      return numUpdatedRows > 0n ? 'resealed' : 'changed';
    },
  };
}

function algorithmOf(text: string): Algorithm {
  const alg = algorithms.find((known) => known === text);
  if (!alg) throw new Error(`the store has a key for ${text}, which this version does not know`);
  return alg;
}
