import { type ExpressionBuilder, type Kysely, type Selectable, sql } from 'kysely';
import { type Ended, type EndedBecause, endings, type RotateRequest, type Session, type Sessions } from '../../domain/session/session.ts';
import type { Locks } from './locks.ts';
import type { Schema } from './schema.ts';

type Row = Selectable<Schema['sessions']>;

export function sqlSessions(db: Kysely<Schema>, locks: Locks): Sessions {
  /** The living session of a rotation; each of the statements below adds what it depends on. */
  const touchLiving = ({ id, at, idleMs, accessUntil }: RotateRequest) =>
    db
      .updateTable('sessions')
      .where('id', '=', id)
      .where('ended_at', 'is', null)
      .where('expires_at', '>', at)
      .$if(idleMs !== undefined, (query) => query.where('last_used_at', '>', at - (idleMs ?? 0)))
      .where(isOfEnabledUser)
      .set({ access_until: sql<number>`case when access_until > ${accessUntil} then access_until else ${accessUntil} end` });

  const endWhere = (because: EndedBecause, at: number) =>
    db
      .updateTable('sessions')
      .set({ ended_at: at, ended_because: because, successor_seal: null })
      .where('ended_at', 'is', null)
      .where('expires_at', '>', at)
      .returning(['id', 'user_id', 'access_until']);

  return {
    async add(session, ifCredentialVersion) {
      const { id, userId, createdAt, authenticatedAt, expiresAt, accessUntil, tokenHash, address, userAgent } = session;
      const { numAffectedRows } = await sql`
        insert into sessions (id, user_id, created_at, authenticated_at, expires_at, last_used_at, generation, current_hash, access_until, address, user_agent)
        select ${id}, ${userId}, ${time(createdAt)}, ${time(authenticatedAt)}, ${time(expiresAt)}, ${time(createdAt)}, 0, ${tokenHash}, ${time(accessUntil)}, ${address}, ${userAgent}
        from users join credentials on credentials.user_id = users.id
        where users.id = ${userId} and users.disabled_at is null and credentials.kind = 'password' and credentials.version = ${ifCredentialVersion}
        ${locks.rows}`.execute(db);
      return numAffectedRows === 1n ? 'added' : 'outdated';
    },

    async rotate(request) {
      const { id, presentedHash, nextHash, successorSeal, at, graceMs } = request;
      const rotated = await touchLiving(request)
        .where('current_hash', '=', presentedHash)
        .set((eb) => ({
          previous_hash: eb.ref('current_hash'),
          current_hash: nextHash,
          successor_seal: graceMs > 0 ? successorSeal : null,
          rotated_at: at,
          last_used_at: at,
          generation: eb('generation', '+', 1),
        }))
        .returningAll()
        .executeTakeFirst();
      if (rotated) return { outcome: 'rotated', session: toSession(rotated) };

      const repeated = await touchLiving(request)
        .where('previous_hash', '=', presentedHash)
        .where('successor_seal', 'is not', null)
        .where('rotated_at', '>', at - graceMs)
        .where('rotated_at', '<', at + graceMs) // two that read the clock at once may commit in either order; a clock set back is no grace
        .returningAll()
        .executeTakeFirst();
      if (repeated?.successor_seal) return { outcome: 'repeated', session: toSession(repeated), successorSeal: repeated.successor_seal };

      const session = await db.selectFrom('sessions').selectAll().where('id', '=', id).where(isOfEnabledUser).executeTakeFirst();
      if (!session || session.ended_at !== null) return { outcome: 'ended' };
      if (session.expires_at <= at || (request.idleMs !== undefined && session.last_used_at <= at - request.idleMs))
        return { outcome: 'expired' };

      const replayed = await endWhere('replay', at).where('id', '=', id).executeTakeFirst();
      return replayed ? { outcome: 'replayed', ended: toEnded(replayed) } : { outcome: 'ended' };
    },

    async end(id, because, at) {
      const row = await endWhere(because, at).where('id', '=', id).executeTakeFirst();
      return row && toEnded(row);
    },

    endAllOf: async (userId, because, at) => (await endWhere(because, at).where('user_id', '=', userId).execute()).map(toEnded),

    // Two statements: whoever adds a session has locked its user, so no other one comes in between. As one, PostgreSQL took the user's
    // dead sessions for ones to be ended, and read the living ones of everybody.
    async endOldest({ id, userId }, max, at) {
      const beyond = await db
        .selectFrom('sessions')
        .select('id')
        .where('user_id', '=', userId)
        .where('id', '!=', id)
        .where('ended_at', 'is', null)
        .where('expires_at', '>', at)
        .orderBy('created_at', 'desc')
        .orderBy('id', 'desc')
        .limit(1_000_000)
        .offset(max - 1)
        .execute();
      if (beyond.length === 0) return [];
      const ids = beyond.map((row) => row.id);
      return (await endWhere('too_many', at).where('id', 'in', ids).execute()).map(toEnded);
    },

    async find(id) {
      const row = await db.selectFrom('sessions').selectAll().where('id', '=', id).executeTakeFirst();
      return row && toSession(row);
    },

    async standing(id) {
      const { rows } = await sql<{ living: number; version: number }>`
        select (select count(*) from sessions where id = ${id} and ended_at is null) as living, value as version from marks where name = 'keys'`.execute(
        db,
      );
      const [row] = rows;
      return { isEnded: row?.living !== 1, keysVersion: row?.version ?? 0 };
    },

    async listLive({ userId, at, limit }) {
      const rows = await db
        .selectFrom('sessions')
        .selectAll()
        .where('ended_at', 'is', null)
        .where('expires_at', '>', at)
        .$if(userId !== undefined, (query) => query.where('user_id', '=', userId ?? ''))
        .orderBy('created_at', 'desc')
        .orderBy('id', 'desc')
        .limit(limit)
        .execute();
      return rows.map(toSession);
    },

    async countLive(at) {
      const { count } = await db
        .selectFrom('sessions')
        .select((eb) => eb.fn.countAll<number>().as('count'))
        .where('ended_at', 'is', null)
        .where('expires_at', '>', at)
        .executeTakeFirstOrThrow();
      return Number(count);
    },

    async listRevoked(at, endedSince) {
      const ended = db.selectFrom('sessions').select(['id', 'user_id', 'access_until']).where('ended_at', 'is not', null);
      if (endedSince === undefined) return (await ended.where('access_until', '>', at).execute()).map(toEnded);
      // One bound alone: given both, PostgreSQL went by the other one, and read thirty times as many.
      const rows = await ended.where('ended_at', '>=', endedSince).execute();
      return rows.filter(({ access_until }) => access_until > at).map(toEnded);
    },

    async clearSeals(rotatedBefore) {
      const { numUpdatedRows } = await db
        .updateTable('sessions')
        .set({ successor_seal: null })
        .where('successor_seal', 'is not', null)
        .where('rotated_at', '<=', rotatedBefore)
        .executeTakeFirst();
      return Number(numUpdatedRows);
    },

    async deleteDead(before, limit) {
      const dead = db
        .selectFrom('sessions')
        .select('id')
        .where((eb) => eb.or([eb('ended_at', '<=', before), eb('expires_at', '<=', before)]))
        .limit(limit);
      const { numDeletedRows } = await db.deleteFrom('sessions').where('id', 'in', dead).executeTakeFirst();
      return Number(numDeletedRows);
    },
  };
}

const isOfEnabledUser = (eb: ExpressionBuilder<Schema, 'sessions'>) =>
  eb.exists(eb.selectFrom('users').select('users.id').whereRef('users.id', '=', 'sessions.user_id').where('users.disabled_at', 'is', null));

/** In a select list PostgreSQL takes a parameter for text unless it is told otherwise. */
const time = (ms: number) => sql<number>`cast(${ms} as bigint)`;

const toEnded = (row: Pick<Row, 'id' | 'user_id' | 'access_until'>): Ended => ({
  id: row.id,
  userId: row.user_id,
  accessUntil: row.access_until,
});

function toSession(row: Row): Session {
  return {
    id: row.id,
    userId: row.user_id,
    createdAt: row.created_at,
    authenticatedAt: row.authenticated_at,
    expiresAt: row.expires_at,
    lastUsedAt: row.last_used_at,
    generation: row.generation,
    accessUntil: row.access_until,
    endedAt: row.ended_at ?? undefined,
    endedBecause: endings.find((because) => because === row.ended_because),
    address: row.address,
    userAgent: row.user_agent,
  };
}
