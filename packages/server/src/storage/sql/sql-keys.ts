import { type Algorithm, algorithms } from '@portcullis/guard';
import { type Kysely, sql } from 'kysely';
import type { Keys, StoredKey } from '../../domain/key/key.ts';
import type { Schema } from './schema.ts';

export function sqlKeys(db: Kysely<Schema>): Keys {
  return {
    async add(key, only) {
      const times = sql`cast(${key.createdAt} as bigint), cast(${key.activeFrom} as bigint)`;
      const { numAffectedRows } = await sql`
        insert into keys (kid, alg, origin, created_at, active_from, public_jwk, sealed_private_jwk)
        select ${key.kid}, ${key.alg}, ${key.origin}, ${times}, ${key.publicJwk ?? null}, ${key.sealedPrivateJwk}
        where not exists (select 1 from keys ${only === 'if-none' ? sql`` : sql`where kid = ${key.kid}`})`.execute(db);
      return numAffectedRows === 1n ? 'added' : 'present';
    },

    async list() {
      const rows = await db.selectFrom('keys').selectAll().orderBy('active_from').orderBy('kid').execute();
      return rows.map((row): StoredKey => ({
        kid: row.kid,
        alg: algorithmOf(row.alg),
        origin: row.origin === 'imported' ? 'imported' : 'made',
        createdAt: row.created_at,
        activeFrom: row.active_from,
        publicJwk: row.public_jwk ?? undefined,
        sealedPrivateJwk: row.sealed_private_jwk,
      }));
    },

    async remove(kid) {
      await db.deleteFrom('keys').where('kid', '=', kid).execute();
    },
  };
}

function algorithmOf(text: string): Algorithm {
  const alg = algorithms.find((known) => known === text);
  if (!alg) throw new Error(`the store has a key for ${text}, which this version does not know`);
  return alg;
}
