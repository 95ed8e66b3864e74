import { mkdirSync } from 'node:fs';
import { resolve } from 'node:path';
import { type Clock, systemClock } from '@portcullis/guard';
import type { AuditEntry } from './domain/audit/audit.ts';
import { failureTally } from './domain/audit/failure-tally.ts';
import { passwordPolicy } from './domain/credential/password-policy.ts';
import { keyRing } from './domain/key/key-ring.ts';
import { Problem } from './domain/problem.ts';
import { revokedSessions } from './domain/session/revoked-sessions.ts';
import type { Together } from './domain/stores.ts';
import { accessTokenMint } from './domain/token/access-token.ts';
import { refreshTokens } from './domain/token/refresh-token.ts';
import type { Services } from './flows/services.ts';
import { commonPasswords } from './lib/common-passwords.ts';
import { hashPool, type HashPool } from './lib/hash-pool.ts';
import { type SecurityLog, securityLog } from './lib/security-log.ts';
import type { Settings } from './settings/table.ts';
import { type SqlStore, sqliteStore } from './storage/sql/sql-store.ts';

/** The store of a data folder and all that works on it: what a server and the CLI have in common. */
export type House = {
  readonly services: Services;
  readonly store: SqlStore;
  readonly securityLog: SecurityLog;
  readonly hashes: HashPool;
  close(): Promise<void>;
};

export type HouseOptions = {
  readonly settings: Settings;
  readonly issuer: string;
  readonly masterSecret: string;
  readonly clock?: Clock;
  /** `cli`: lines of the security log are written before going on, and one thread hashes. */
  readonly for: 'server' | 'cli';
  /** Called before the store is opened: a server makes sure that it is the only one. */
  readonly lock?: () => void;
};

/** Opens what is there, and brings its tables up to date. @throws {Error} of the system's, when a file cannot be opened. */
export async function openHouse(options: HouseOptions): Promise<House> {
  const { settings, masterSecret } = options;
  const clock = options.clock ?? systemClock();
  mkdirSync(settings.dataDir, { recursive: true, mode: 0o700 });
  options.lock?.();
  const store = sqliteStore(databaseFile(settings));
  await store.migrate();

  const log = securityLog({ file: logFile(settings), clock, sync: options.for === 'cli' });
  const hashes = hashPool(options.for === 'cli' ? { threads: 1 } : {});
  const policy = passwordPolicy({ minLength: settings.passwordMinLength, blocked: commonPasswords() });
  const ring = keyRing({ keys: store.keys, clock, masterSecret });

  const services: Services = {
    users: store.users, credentials: store.credentials, sessions: store.sessions, keys: store.keys, audit: store.audit,
    clock,
    together: loggedTogether(store.together, log),
    passwords: hashes,
    checkNewPassword(password, username) {
      const fault = policy.check(password, { username });
      if (fault) throw new Problem(fault);
    },
    refreshTokens: refreshTokens(masterSecret),
    accessTokens: accessTokenMint({ keyRing: ring, clock, issuer: options.issuer, audience: settings.audience, ttlMs: settings.accessTokenTtlMs }),
    keyRing: ring,
    revoked: revokedSessions({ sessions: store.sessions, clock, changedElsewhere: store.changedElsewhere, onChanged: () => void ring.load().catch(() => {}) }),
    failureTally: failureTally({ clock }),
    lifetimes: settings,
  };

  return {
    services, store, securityLog: log, hashes,
    async close() {
      await hashes.close();
      await store.close();
      log.close();
    },
  };
}

export const databaseFile = ({ database, dataDir }: Pick<Settings, 'database' | 'dataDir'>): string => (database.file === ':memory:' ? database.file : resolve(dataDir, database.file));

const logFile = ({ logFile: file, dataDir }: Settings): string => (file === 'stdout' ? file : resolve(dataDir, file));

/** What is on record in the audit is in the security log too, once it is committed; failed logins are there as refusals. */
function loggedTogether(together: Together, log: SecurityLog): Together {
  return async (work) => {
    const entries: AuditEntry[] = [];
    const result = await together((stores) => work({ ...stores, audit: { ...stores.audit, add: async (entry) => { await stores.audit.add(entry); entries.push(entry); } } }));
    for (const { id, at: _, action, ...facts } of entries) log.acted({ act: action, auditId: id, ...facts });
    return result;
  };
}
