import { type Kysely, type Selectable, sql } from 'kysely';
import type { Audit, AuditEntry, AuditRecord } from '../../domain/audit/audit.ts';
import type { Schema } from './schema.ts';

export function sqlAudit(db: Kysely<Schema>): Audit {
  return {
    async add(entry) {
      await db.insertInto('audit').values(toRow(entry)).execute();
    },

    async tally(entry) {
      await db
        .insertInto('audit')
        .values(toRow(entry))
        .onConflict((conflict) =>
          conflict.column('id').doUpdateSet((eb) => ({
            at: sql<number>`case when audit.at > ${entry.at} then audit.at else ${entry.at} end`,
            count: eb('audit.count', '+', entry.count),
          })),
        )
        .execute();
    },

    async list({ limit, action, username, userId, requestId }) {
      const rows = await db
        .selectFrom('audit')
        .selectAll()
        .$if(action !== undefined, (query) => query.where('action', '=', action ?? ''))
        .$if(username !== undefined || userId !== undefined, (query) =>
          query.where((eb) =>
            eb.or([
              ...(username === undefined ? [] : [eb('username', '=', username)]),
              ...(userId === undefined ? [] : [eb('user_id', '=', userId)]),
            ]),
          ),
        )
        .$if(requestId !== undefined, (query) => query.where('request_id', '=', requestId ?? ''))
        .orderBy('at', 'desc')
        .orderBy('id', 'desc')
        .limit(limit)
        .execute();
      return rows.map(toRecord);
    },

    async deleteBefore(at, limit) {
      const old = db.selectFrom('audit').select('id').where('at', '<', at).limit(limit);
      const { numDeletedRows } = await db.deleteFrom('audit').where('id', 'in', old).executeTakeFirst();
      return Number(numDeletedRows);
    },
  };
}

function toRow(entry: AuditEntry): Schema['audit'] {
  return {
    id: entry.id,
    at: entry.at,
    action: entry.action,
    by: entry.by,
    user_id: entry.userId ?? null,
    username: entry.username ?? null,
    session_id: entry.sessionId ?? null,
    address: entry.address ?? null,
    request_id: entry.requestId ?? null,
    reason: entry.reason ?? null,
    count: entry.count,
  };
}

function toRecord(row: Selectable<Schema['audit']>): AuditRecord {
  return {
    id: row.id,
    at: row.at,
    action: row.action,
    by: row.by === 'operator' || row.by === 'server' ? row.by : 'user',
    userId: row.user_id ?? undefined,
    username: row.username ?? undefined,
    sessionId: row.session_id ?? undefined,
    address: row.address ?? undefined,
    requestId: row.request_id ?? undefined,
    reason: row.reason ?? undefined,
    count: row.count,
  };
}
