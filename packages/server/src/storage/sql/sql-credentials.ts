import type { Kysely } from 'kysely';
import type { Credentials } from '../../domain/credential/credential.ts';
import type { Schema } from './schema.ts';

export function sqlCredentials(db: Kysely<Schema>): Credentials {
  return {
    async findPassword(userId) {
      const row = await db
        .selectFrom('credentials')
        .selectAll()
        .where('user_id', '=', userId)
        .where('kind', '=', 'password')
        .executeTakeFirst();
      return row && { userId: row.user_id, passwordHash: row.secret_hash, version: row.version, changedAt: row.changed_at };
    },

    async setPassword(userId, passwordHash, at) {
      await db
        .insertInto('credentials')
        .values({ user_id: userId, kind: 'password', secret_hash: passwordHash, version: 1, changed_at: at })
        .onConflict((conflict) =>
          conflict.columns(['user_id', 'kind']).doUpdateSet((eb) => ({
            secret_hash: passwordHash,
            changed_at: at,
            version: eb('credentials.version', '+', 1),
          })),
        )
        .execute();
    },

    async remove(userId) {
      await db.deleteFrom('credentials').where('user_id', '=', userId).execute();
    },
  };
}
