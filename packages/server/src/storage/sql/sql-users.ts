import { type Kysely, type Selectable, sql } from 'kysely';
import { Problem } from '../../domain/problem.ts';
import { type User, usernameKey, type Users } from '../../domain/user/user.ts';
import { isUniqueViolation } from './unique-violation.ts';
import type { Schema } from './schema.ts';

export function sqlUsers(db: Kysely<Schema>): Users {
  return {
    async add(user) {
      try {
        await db
          .insertInto('users')
          .values({
            id: user.id,
            username: user.username,
            username_key: usernameKey(user.username),
            created_at: user.createdAt,
            disabled_at: user.disabledAt ?? null,
            is_demo: user.isDemo ? 1 : 0,
          })
          .execute();
      } catch (error) {
        throw isUniqueViolation(error) ? new Problem('username_taken') : error;
      }
    },

    find: async (id) => fromRow(await db.selectFrom('users').selectAll().where('id', '=', id).executeTakeFirst()),

    findByName: async (username) =>
      fromRow(await db.selectFrom('users').selectAll().where('username_key', '=', usernameKey(username)).executeTakeFirst()),

    async list({ after, limit }) {
      const rows = await db
        .selectFrom('users')
        .selectAll()
        .$if(after !== undefined, (query) => query.where('username_key', '>', usernameKey(after ?? '')))
        .orderBy('username_key')
        .limit(limit)
        .execute();
      return rows.map(toUser);
    },

    async setDisabled(id, at) {
      const { numUpdatedRows } = await db
        .updateTable('users')
        .set({ disabled_at: at ?? null })
        .where('id', '=', id)
        .executeTakeFirst();
      return numUpdatedRows > 0n;
    },

    async unmarkDemo(id) {
      await db.updateTable('users').set({ is_demo: 0 }).where('id', '=', id).execute();
    },

    async remove(id) {
      const { numDeletedRows } = await db.deleteFrom('users').where('id', '=', id).executeTakeFirst();
      return numDeletedRows > 0n;
    },

    // Not as a parameter: SQLite would not know that the index of just these is enough.
    findDemo: async () => fromRow(await db.selectFrom('users').selectAll().where('is_demo', '=', sql.lit(1)).executeTakeFirst()),
  };
}

const fromRow = (row: Selectable<Schema['users']> | undefined): User | undefined => row && toUser(row);

function toUser(row: Selectable<Schema['users']>): User {
  return {
    id: row.id,
    username: row.username,
    createdAt: row.created_at,
    disabledAt: row.disabled_at ?? undefined,
    isDemo: row.is_demo === 1,
  };
}
