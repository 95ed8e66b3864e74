export const auditActions = [
  'login',
  'login_failed',
  'logout',
  'refresh_replayed',
  'sessions_ended',
  'user_added',
  'user_disabled',
  'user_enabled',
  'user_removed',
  'password_set',
  'key_made',
  'key_imported',
  'key_compromised',
  'keys_resealed',
  'guesses_cleared',
  'password_spraying',
] as const;
export type AuditAction = (typeof auditActions)[number];

/** Who did what when, and why refused. Never a password, a token or a hash. */
export type AuditEntry = {
  readonly id: string;
  readonly at: number;
  readonly action: AuditAction;
  /** `user`: over HTTP; `operator`: by the CLI; `server`: by itself. */
  readonly by: 'user' | 'operator' | 'server';
  readonly userId?: string | undefined;
  /** As it was sent, bounded; anyone may have written it. */
  readonly username?: string | undefined;
  readonly sessionId?: string | undefined;
  readonly address?: string | undefined;
  readonly requestId?: string | undefined;
  readonly reason?: string | undefined;
  /** How many acts this row sums. */
  readonly count: number;
};

/** As it is on record: the action may be one that only another version knows. */
export type AuditRecord = Omit<AuditEntry, 'action'> & { readonly action: string };

export interface Audit {
  add(entry: AuditEntry): Promise<void>;
  /** Adds the entry, or, where one with its id is there already, raises that one's count and time. */
  tally(entry: AuditEntry): Promise<void>;
  /** Newest first. `username` and `userId` together: what has either of them. */
  list(page: { limit: number; action?: AuditAction; username?: string; userId?: string; requestId?: string }): Promise<AuditRecord[]>;
  deleteBefore(at: number, limit: number): Promise<number>;
}

/** Untrusted text for a log or a table: bounded, and free of what a terminal or a reader would not show as it is. */
export function plainText(text: string, maxLength = 128): string {
  const cut = text.length > maxLength ? `${text.slice(0, maxLength)}…` : text;
  return cut.toWellFormed().replace(/[\p{C}\p{Zl}\p{Zp}]/gu, (char) => `\\u{${char.codePointAt(0)?.toString(16)}}`);
}
