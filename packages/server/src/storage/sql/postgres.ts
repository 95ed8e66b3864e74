import { type Dialect, PostgresDialect, type PostgresPoolClient } from 'kysely';
import pg from 'pg';
import { Problem } from '../../domain/problem.ts';
import { breaker } from '../../lib/breaker.ts';
import { within } from '../../lib/within.ts';
import { parsePostgresUrl } from '../../lib/postgres-url.ts';

export type PostgresOptions = {
  /** As {@link parsePostgresUrl} reads it. */
  readonly url: string;
  /** What is in the files that it names, where it asks for TLS. */
  readonly tls?: { readonly ca?: string; readonly cert?: string; readonly key?: string };
  /** Where the URL has none. */
  readonly password?: string | undefined;
  /** Connections at most. */
  readonly poolSize: number;
  /** No statement is waited for longer, nor a connection; the server itself gives up on it at the same time. */
  readonly timeoutMs: number;
  /** In place of that, for a statement alone: where one may take its time. */
  readonly statementMs?: number;
  /** Told of each connection that broke while nobody used it. */
  readonly onBroken?: (error: Error) => void;
};

/** So many silences in a row, and nobody waits for it any more. */
const SILENCES = 3;
const RETRY_MS = 300;
/** So long one who tries waits before the next one does. */
const TRY_MS = 1_000;

/**
 * A PostgreSQL database. What it cannot answer now (away, starting, read-only, out of room, too slow) is 503 `unavailable`;
 * while it does not answer at all, at once.
 * Where its URL asks for TLS, nothing is sent before its certificate and its name have been found good.
 * @throws {Error} of TLS, for a certificate or a key that is none.
 */
export function openPostgres({ url, tls, password, poolSize, timeoutMs, statementMs = timeoutMs, onBroken }: PostgresOptions): {
  readonly dialect: Dialect;
} {
  const at = parsePostgresUrl(url);
  const pool = new pg.Pool({
    host: at.host,
    port: at.port,
    user: at.user,
    password: at.password ?? password,
    database: at.database,
    ssl: at.tls ? { ...tls, rejectUnauthorized: true } : false,
    options: at.options,
    application_name: at.applicationName ?? APPLICATION,
    max: poolSize,
    connectionTimeoutMillis: timeoutMs,
    statement_timeout: statementMs,
    lock_timeout: Math.ceil(timeoutMs * 0.9), // so that a lock that somebody holds is told from a database that is silent
    idle_in_transaction_session_timeout: 2 * statementMs, // of an instance that froze in mid-transaction, the locks come free
    query_timeout: statementMs + 200, // where not even its refusal comes
    keepAlive: true,
    types: {
      getTypeParser: (oid: number, format?: 'text' | 'binary') => (oid === INT8 ? Number : pg.types.getTypeParser(oid, format)),
    },
  });
  pool.on('error', (error) => onBroken?.(error));
  const way = breaker({ failures: SILENCES, retryMs: RETRY_MS, tryIt: () => within(TRY_MS, hello()) });
  let why = '';
  const heard: Heard = {
    answered: way.answered,
    silence(error) {
      why = reasonOf(error);
      way.failed();
    },
  };

  async function connect(): Promise<PostgresPoolClient> {
    try {
      return guarded(await pool.connect(), heard);
    } catch (error) {
      heard.silence(error);
      return refused(error);
    }
  }

  async function hello(): Promise<void> {
    const client = await connect();
    try {
      await client.query('select 1', []);
    } finally {
      client.release();
    }
  }

  return {
    dialect: new PostgresDialect({
      pool: {
        async connect() {
          if (way.isOpen()) throw new Problem('unavailable', `PostgreSQL: away (${why})`, { retryAfterS: 1 });
          return connect();
        },
        end() {
          way.close();
          return pool.end();
        },
        options: pool.options,
      },
    }),
  };
}

/** How our connections are called in `pg_stat_activity`. */
const APPLICATION = 'portcullis';

/** Our times and counts are far below 2^53. */
const INT8 = 20;

/** Told of each answer of the database, and of each that did not come. */
type Heard = { answered(): void; silence(error: unknown): void };

/** A client whose troubles are ours, and which is not used again after one that may have left something on its way. */
function guarded(client: pg.PoolClient, heard: Heard): PostgresPoolClient {
  let isBroken = false;
  // While it is lent out, the pool does not listen for its end; an end that nobody hears would be the process's.
  const broke = (): void => {
    isBroken = true;
  };
  client.on('error', broke);
  const query = async (text: string, values: unknown[]): Promise<pg.QueryResult> => {
    try {
      const result = await client.query(text, values);
      heard.answered();
      return result;
    } catch (error) {
      // What the server itself said leaves the connection as good as before; all else is silence or a torn wire.
      isBroken ||= !(error instanceof pg.DatabaseError) || endsConnection(error.code);
      if (isSilence(error)) heard.silence(error);
      else heard.answered();
      return refused(error);
    }
  };
  return {
    query: query as PostgresPoolClient['query'] & typeof query, // of its two forms, the one with a cursor is never asked for
    release: (discard?: boolean) => {
      client.release(isBroken || discard === true);
      client.off('error', broke);
    },
  };
}

/** @throws {Problem} `unavailable` for what passes; what was thrown, for a fault of ours. */
function refused(error: unknown): never {
  const code = error instanceof pg.DatabaseError ? error.code : undefined;
  if (error instanceof pg.DatabaseError && !(code !== undefined && passing.test(code))) throw error;
  throw Object.assign(new Problem('unavailable', `PostgreSQL: ${reasonOf(error)}`, { retryAfterS: 2 }), { cause: error });
}

/** What it said in words; else by which code the wire is known to have broken. */
function reasonOf(error: unknown): string {
  if (error instanceof pg.DatabaseError) return `${error.message} (${error.code})`;
  if (!(error instanceof Error)) return 'unknown';
  return 'code' in error ? String(error.code) : error.message;
}

/**
 * Connection exceptions, no room or memory, objects in use, cancelled or shutting down, read-only, in recovery, a lock not
 * had in time, I/O, rolled back for another's sake (PostgreSQL manual, appendix A).
 */
const passing = /^(08|53|57|58|40|25006|25P0[234]|55P03|28000|28P01|3D000)/;

const endsConnection = (code: string | undefined): boolean => code !== undefined && /^(08|57P|25P0[34])/.test(code);

/** It did not answer, or not in time (57014), or only that it is going, coming or full. */
const isSilence = (error: unknown): boolean => !(error instanceof pg.DatabaseError) || /^(08|53|57)/.test(error.code ?? '');

/** Rolled back because two of them were in each other's way: to be tried again (serialisation failure, deadlock). */
export const isCollision = (error: unknown): boolean => {
  const { code } = Object(Object(error).cause) as { code?: unknown }; // what `refused` keeps
  return code === '40001' || code === '40P01';
};
