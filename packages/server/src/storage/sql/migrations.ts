import { type Kysely, sql } from 'kysely';
import { randomBytes } from '../../lib/secret.ts';
import type { Migration } from 'kysely/migration';

/** By name, in the order they are run. A migration that has been released is never changed; the next one is added. */
export const migrations: Record<string, Migration> = {
  '0001_first': {
    async up(db: Kysely<unknown>) {
      await db.schema
        .createTable('users')
        .addColumn('id', 'text', (column) => column.primaryKey())
        .addColumn('username', 'text', (column) => column.notNull())
        .addColumn('username_key', 'text', (column) => column.notNull().unique())
        .addColumn('created_at', 'bigint', (column) => column.notNull())
        .addColumn('disabled_at', 'bigint')
        .addColumn('is_demo', 'integer', (column) => column.notNull())
        .execute();

      await db.schema
        .createTable('credentials')
        .addColumn('user_id', 'text', (column) => column.notNull())
        .addColumn('kind', 'text', (column) => column.notNull())
        .addColumn('secret_hash', 'text', (column) => column.notNull())
        .addColumn('version', 'integer', (column) => column.notNull())
        .addColumn('changed_at', 'bigint', (column) => column.notNull())
        .addPrimaryKeyConstraint('credentials_key', ['user_id', 'kind'])
        .execute();

      await db.schema
        .createTable('sessions')
        .addColumn('id', 'text', (column) => column.primaryKey())
        .addColumn('user_id', 'text', (column) => column.notNull())
        .addColumn('created_at', 'bigint', (column) => column.notNull())
        .addColumn('authenticated_at', 'bigint', (column) => column.notNull())
        .addColumn('expires_at', 'bigint', (column) => column.notNull())
        .addColumn('last_used_at', 'bigint', (column) => column.notNull())
        .addColumn('generation', 'bigint', (column) => column.notNull())
        .addColumn('current_hash', 'text', (column) => column.notNull())
        .addColumn('previous_hash', 'text')
        .addColumn('rotated_at', 'bigint')
        .addColumn('successor_seal', 'text')
        .addColumn('access_until', 'bigint', (column) => column.notNull())
        .addColumn('ended_at', 'bigint')
        .addColumn('ended_because', 'text')
        .addColumn('address', 'text', (column) => column.notNull())
        .addColumn('user_agent', 'text', (column) => column.notNull())
        .execute();
      await db.schema.createIndex('sessions_of_user').on('sessions').columns(['user_id', 'created_at']).execute();
      await db.schema.createIndex('sessions_expiring').on('sessions').column('expires_at').execute();
      await db.schema.createIndex('sessions_ended').on('sessions').column('ended_at').where(sql.ref('ended_at'), 'is not', null).execute();
      await db.schema
        .createIndex('sessions_revoked')
        .on('sessions')
        .column('access_until')
        .where(sql.ref('ended_at'), 'is not', null)
        .execute();
      await db.schema
        .createIndex('sessions_sealed')
        .on('sessions')
        .column('rotated_at')
        .where(sql.ref('successor_seal'), 'is not', null)
        .execute();

      await db.schema
        .createTable('keys')
        .addColumn('kid', 'text', (column) => column.primaryKey())
        .addColumn('alg', 'text', (column) => column.notNull())
        .addColumn('origin', 'text', (column) => column.notNull())
        .addColumn('created_at', 'bigint', (column) => column.notNull())
        .addColumn('active_from', 'bigint', (column) => column.notNull())
        .addColumn('public_jwk', 'text')
        .addColumn('sealed_private_jwk', 'text', (column) => column.notNull())
        .execute();

      await db.schema
        .createTable('audit')
        .addColumn('id', 'text', (column) => column.primaryKey())
        .addColumn('at', 'bigint', (column) => column.notNull())
        .addColumn('action', 'text', (column) => column.notNull())
        .addColumn('by', 'text', (column) => column.notNull())
        .addColumn('user_id', 'text')
        .addColumn('username', 'text')
        .addColumn('session_id', 'text')
        .addColumn('address', 'text')
        .addColumn('request_id', 'text')
        .addColumn('reason', 'text')
        .addColumn('count', 'integer', (column) => column.notNull())
        .execute();
      await db.schema.createIndex('audit_in_time').on('audit').columns(['at', 'id']).execute();
    },
  },

  '0002_compromised_keys': {
    async up(db: Kysely<unknown>) {
      await db.schema.alterTable('keys').addColumn('compromised_at', 'bigint').execute();
    },
  },

  // Living sessions are counted for the metrics: a million of them take 15 ms by this, and 1.6 s without.
  '0003_live_sessions': {
    async up(db: Kysely<unknown>) {
      await db.schema.createIndex('sessions_living').on('sessions').column('expires_at').where(sql.ref('ended_at'), 'is', null).execute();
    },
  },

  '0004_guesses': {
    async up(db: Kysely<unknown>) {
      await db.schema
        .createTable('guesses')
        .addColumn('key', 'text', (column) => column.primaryKey())
        .addColumn('times', 'text', (column) => column.notNull())
        .addColumn('keep_until', 'bigint', (column) => column.notNull())
        .execute();
      await db.schema.createIndex('guesses_dead').on('guesses').column('keep_until').execute();
    },
  },

  '0005_instances': {
    async up(db: Kysely<unknown>) {
      await db.schema
        .createTable('marks')
        .addColumn('name', 'text', (column) => column.primaryKey())
        .addColumn('value', 'bigint', (column) => column.notNull())
        .execute();
      await sql`insert into marks (name, value) values ('keys', 0)`.execute(db);
      await db.schema
        .createTable('instances')
        .addColumn('id', 'text', (column) => column.primaryKey())
        .addColumn('seen_at', 'bigint', (column) => column.notNull())
        .execute();
    },
  },

  '0006_leases': {
    async up(db: Kysely<unknown>) {
      await db.schema
        .createTable('leases')
        .addColumn('name', 'text', (column) => column.primaryKey())
        .addColumn('holder', 'text', (column) => column.notNull())
        .addColumn('until', 'bigint', (column) => column.notNull())
        .execute();
    },
  },

  '0007_instance_keys': {
    async up(db: Kysely<unknown>) {
      await db.schema
        .alterTable('instances')
        .addColumn('keys_version', 'bigint', (column) => column.notNull().defaultTo(0))
        .execute();
    },
  },

  // A number that no other store has: where several keep something in one Redis, its name there.
  '0008_number_of_the_store': {
    async up(db: Kysely<unknown>) {
      await sql`insert into marks (name, value) values ('store', ${randomBytes(6).readUIntBE(0, 6)})`.execute(db);
    },
  },

  // Of a user only living sessions are ever looked for: one who logs in by a program leaves a hundred thousand dead ones behind
  // him, and his next login took 34 ms on SQLite. And each start looks for a demo's user among all: 44 ms a million.
  '0009_living_of_user': {
    async up(db: Kysely<unknown>) {
      await db.schema.dropIndex('sessions_of_user').execute();
      await db.schema
        .createIndex('sessions_of_user')
        .on('sessions')
        .columns(['user_id', 'created_at'])
        .where(sql.ref('ended_at'), 'is', null)
        .execute();
      await db.schema.createIndex('users_of_demo').on('users').column('is_demo').where(sql.ref('is_demo'), '=', sql.lit(1)).execute();
    },
  },
};
