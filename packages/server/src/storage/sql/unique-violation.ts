/** SQLite says UNIQUE (2067) or PRIMARY KEY (1555), PostgreSQL 23505. */
export function isUniqueViolation(error: unknown): boolean {
  const { errcode, code } = Object(error) as { errcode?: unknown; code?: unknown }; // what a driver threw
  return errcode === 2067 || errcode === 1555 || code === '23505';
}
