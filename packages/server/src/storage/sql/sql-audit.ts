import type { Kysely, Selectable } from 'kysely';
import { type Audit, auditActions, type AuditEntry } from '../../domain/audit/audit.ts';
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
        .onConflict((conflict) => conflict.column('id').doUpdateSet((eb) => ({ at: entry.at, count: eb('audit.count', '+', entry.count) })))
        .execute();
    },

    async list({ limit, action, username }) {
      const rows = await db
        .selectFrom('audit')
        .selectAll()
        .$if(action !== undefined, (query) => query.where('action', '=', action ?? ''))
        .$if(username !== undefined, (query) => query.where('username', '=', username ?? ''))
        .orderBy('at', 'desc')
        .orderBy('id', 'desc')
        .limit(limit)
        .execute();
      return rows.map(toEntry);
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

function toEntry(row: Selectable<Schema['audit']>): AuditEntry {
  return {
    id: row.id,
    at: row.at,
    action: auditActions.find((action) => action === row.action) ?? 'login',
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
