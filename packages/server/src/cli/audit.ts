import { setTimeout as sleep } from 'node:timers/promises';
import type { Desk } from '../desk.ts';
import { auditActions, type AuditAction, type AuditRecord } from '../domain/audit/audit.ts';
import { command, type On } from './command.ts';
import { type Column, json, table } from './print.ts';
import { whole } from './whole.ts';

type ShownEntry = { id: string; at: number; action: string; count: number; by: string; username: string | undefined; userId: string | undefined; sessionId: string | undefined; address: string | undefined; requestId: string | undefined; reason: string | undefined };

const alarming: readonly string[] = ['refresh_replayed', 'password_spraying'] satisfies AuditAction[];
const noteworthy: readonly string[] = ['login_failed', 'user_disabled', 'user_removed', 'sessions_ended'] satisfies AuditAction[];

const entryColumns: readonly Column<ShownEntry>[] = [
  { key: 'at', title: 'when', as: 'time' },
  { key: 'action', shows: ({ action, count }) => (count === 1 ? action : `${action} ×${count}`), style: ({ action }) => (alarming.includes(action) ? 'red' : noteworthy.includes(action) ? 'yellow' : undefined) },
  { key: 'count', hidden: true },
  { key: 'by', from: 90 },
  { key: 'username', title: 'user', cut: true },
  { key: 'address', cut: true },
  { key: 'sessionId', title: 'session', from: 130 },
  { key: 'reason', cut: true },
  { key: 'id', hidden: true },
  { key: 'userId', hidden: true },
  { key: 'requestId', hidden: true },
];

/** How many entries `tail` begins with, how often it looks, and how far back. */
const TAIL = { first: 10, everyMs: 500, most: 1_000 } as const;

export const audit = [
  command({
    name: 'audit list',
    modes: ['admin', 'dev'],
    settings: 'store',
    options: {
      limit: { takes: 'N', says: 'At most so many; 50 unless told otherwise.' },
      action: { takes: 'ACTION', oneOf: auditActions, says: 'Only this action.' },
      username: { takes: 'NAME', says: 'Only about this user, by any spelling of the name or the id; or about a name that no user has, exactly as it was sent.' },
      request: { takes: 'ID', says: 'Only of this request: the "instance" of an answer, or its X-Request-Id.' },
    },
    summary: 'List who did what when, newest first',
    about: [
      'From an address block that has failed at ten names within an hour, failed logins are summed by the hour: "×12" says how many.',
      'A narrow terminal shows less; --json has all, also the ids of sessions and requests.',
    ],
    examples: [['audit list', 'the last 50'], ['audit list --action login_failed --username alice', 'who guesses at alice'], ['audit list --request 018f…', 'what an answer was about'], ['audit list --limit 100000 --json', 'for a program']],
    columns: entryColumns,
    none: 'Nothing is on record.',
    async does(on, given) {
      const limit = whole('--limit', given.limit ?? '50');
      const action = auditActions.find((known) => known === given.action);
      const { services } = await on.desk();
      const found = await services.audit.list({
        limit,
        ...(action && { action }),
        ...(given.username !== undefined && await about(services, given.username)),
        ...(given.request !== undefined && { requestId: given.request.toLowerCase().replace(/^urn:uuid:/, '') }),
      });
      return found.map(shown);
    },
  }),

  command({
    name: 'audit tail',
    modes: ['admin', 'dev'],
    settings: 'store',
    summary: 'Show the last entries, and new ones as they come',
    about: ['Ends with Ctrl-C. An entry that sums is shown again when its count has grown. With --json, each entry is one line.'],
    examples: [['audit tail', 'the last ten, then what comes']],
    columns: entryColumns,
    async does(on) {
      const { services, store } = await on.desk();
      using end = untilSignal();
      const widths: number[] = [];
      const look = (): Promise<AuditRecord[]> => services.audit.list({ limit: TAIL.most });
      let seen = await look();
      print(on, seen.slice(0, TAIL.first), { head: true, widths });
      while (await pause(TAIL.everyMs, end.signal)) {
        if (store.changedElsewhere?.() === false) continue;
        const counts = new Map(seen.map(({ id, count }) => [id, count]));
        seen = await look();
        const news = seen.filter(({ id, count }) => counts.get(id) !== count);
        if (news.length === TAIL.most) on.note(`There were more than ${TAIL.most} at once: "audit list" has them all.`);
        print(on, news, { head: false, widths });
      }
    },
  }),
];

/** Replays, logouts and ended sessions are on record by the user's id alone; and who is removed can be found by it still. */
async function about({ users }: Pick<Desk['services'], 'users'>, nameOrId: string): Promise<{ username: string; userId: string }> {
  return { username: nameOrId, userId: (await users.findByName(nameOrId))?.id ?? nameOrId };
}

const shown = ({ id, at, action, count, by, username, userId, sessionId, address, requestId, reason }: AuditRecord): ShownEntry =>
  ({ id, at, action, count, by, username, userId, sessionId, address, requestId, reason });

function print({ terminal: { out }, json: asJson, clock }: On, newestFirst: readonly AuditRecord[], how: { head: boolean; widths: number[] }): void {
  const items = newestFirst.toReversed().map(shown);
  const lines = asJson ? items.map((item) => JSON.stringify(json(item, entryColumns))) : table(items, entryColumns, out, clock.now(), how);
  for (const line of lines) out.line(line);
}

/** Aborted by Ctrl-C, or whatever else asks the command to end. */
function untilSignal(): Disposable & { readonly signal: AbortSignal } {
  const asked = new AbortController();
  const end = (): void => { asked.abort(); };
  for (const name of ['SIGINT', 'SIGTERM'] as const) process.on(name, end);
  return { signal: asked.signal, [Symbol.dispose]: () => { for (const name of ['SIGINT', 'SIGTERM'] as const) process.off(name, end); } };
}

/** False when it was cut short. */
const pause = (ms: number, signal: AbortSignal): Promise<boolean> => sleep(ms, true, { signal }).catch(() => false);
