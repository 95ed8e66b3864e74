import { resolve } from 'node:path';
import { type Clock, systemClock } from '@portcullis/guard';
import type { AuditEntry } from './domain/audit/audit.ts';
import { passwordPolicy } from './domain/credential/password-policy.ts';
import { Problem } from './domain/problem.ts';
import { type AskedSessions, askedSessions } from './domain/session/asked-sessions.ts';
import { type RevokedSessions, revokedSessions } from './domain/session/revoked-sessions.ts';
import type { Together } from './domain/stores.ts';
import type { Passwords, Services } from './flows/services.ts';
import { commonPasswords } from './lib/common-passwords.ts';
import { type HashPool, hashPool } from './lib/hash-pool.ts';
import { type SecurityLog, securityLog } from './lib/security-log.ts';
import { openSet } from './mistake.ts';
import { openStoreAt } from './open-database.ts';
import { tellRevocations } from './open-redis.ts';
import type { Settings } from './settings/table.ts';
import type { SqlStore } from './storage/sql/sql-store.ts';

/** What an operator works at: a store and all that can be done with it without its secret. */
export type Desk = {
  readonly services: DeskServices;
  readonly store: SqlStore;
  close(): Promise<void>;
};

export type DeskServices = Pick<
  Services,
  'users' | 'credentials' | 'sessions' | 'keys' | 'audit' | 'guesses' | 'clock' | 'together' | 'passwords' | 'checkNewPassword' | 'revoked'
>;

/**
 * Opens a store for an operator, beside its server or without one. What most commands never need, a thread that hashes
 * and the security log, is opened when it is first used; the log before anything is changed.
 * @throws {Mistake} when the file cannot be opened.
 */
export async function openDesk({ settings, clock = systemClock() }: { settings: Settings; clock?: Clock }): Promise<Desk> {
  const store = await openStoreAt(settings);
  const held = new AsyncDisposableStack();
  let log: SecurityLog | undefined;
  let hashes: HashPool | undefined;
  const pool = (): HashPool => (hashes ??= hashPool({ threads: 1 }));

  const services = deskServices({
    store,
    clock,
    settings,
    // The standard output of a command is its answer, so a log that goes there goes beside it.
    log: () => {
      const file = settings.logFile === 'stdout' ? 'stderr' : logFile(settings);
      return (log ??= openSet('PORTCULLIS_LOG_FILE', file, () => securityLog({ file, clock, sync: true })));
    },
    passwords: {
      hash: (password) => pool().hash(password),
      verify: (password, hash) => pool().verify(password, hash),
      assertRoom: () => pool().assertRoom(),
    },
    ...(settings.redisUrl !== undefined && { share: tellRevocations(settings, store, clock, held) }),
  });
  return {
    services,
    store,
    async close() {
      await hashes?.close();
      await held.disposeAsync();
      await store.close();
      log?.close();
    },
  };
}

export type DeskParts = {
  readonly store: SqlStore;
  readonly clock: Clock;
  readonly settings: Settings;
  /** Asked for before anything is written to the store. */
  readonly log: () => Pick<SecurityLog, 'acted'>;
  readonly passwords: Passwords;
  /** Reads anew what else is kept of the store, when another process has written to it. */
  readonly onChanged?: () => Promise<void>;
  /** What Redis adds, where instances share one. */
  readonly share?: (asked: AskedSessions) => RevokedSessions;
};

/** What a desk and a server have in common. */
export function deskServices({ store, clock, settings, log, passwords, onChanged, share }: DeskParts): DeskServices {
  return {
    users: store.users,
    credentials: store.credentials,
    sessions: store.sessions,
    keys: store.keys,
    audit: store.audit,
    guesses: store.guesses,
    clock,
    passwords,
    together: loggedTogether(store.together, log),
    checkNewPassword: newPasswordCheck(settings),
    revoked: store.changedElsewhere
      ? revokedSessions({ sessions: store.sessions, clock, changedElsewhere: store.changedElsewhere, ...(onChanged && { onChanged }) })
      : (share ?? same)(askedSessions({ sessions: store.sessions, keys: store.keys, ...(onChanged && { onKeysChanged: onChanged }) })),
  };
}

const same = (asked: AskedSessions): RevokedSessions => asked;

/** Throws the {@link Problem} that names what is wrong with a new password. */
export function newPasswordCheck({ passwordMinLength }: Pick<Settings, 'passwordMinLength'>): Services['checkNewPassword'] {
  const policy = passwordPolicy({ minLength: passwordMinLength, blocked: commonPasswords() });
  const tooShort = { detail: `A password has at least ${passwordMinLength} characters; a sentence is easy to remember.` };
  return (password, username) => {
    const fault = policy.check(password, { username });
    if (fault) throw new Problem(fault, undefined, fault === 'password_too_short' ? tooShort : {});
  };
}

export const logFile = ({ logFile: file, dataDir }: Pick<Settings, 'logFile' | 'dataDir'>): string =>
  file === 'stdout' ? file : resolve(dataDir, file);

/** What is on record in the audit is in the security log too, once it is committed; failed logins are there as refusals. */
function loggedTogether(together: Together, openLog: DeskParts['log']): Together {
  return async (work) => {
    const log = openLog();
    const entries: AuditEntry[] = [];
    const result = await together((stores) => {
      entries.length = 0; // of an attempt that another transaction was in the way of
      return work({
        ...stores,
        audit: {
          ...stores.audit,
          add: async (entry) => {
            await stores.audit.add(entry);
            entries.push(entry);
          },
        },
      });
    });
    for (const { id, at: _, action, ...facts } of entries) log.acted({ act: action, auditId: id, ...facts });
    return result;
  };
}
