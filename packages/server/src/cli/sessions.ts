import { command, WrongUsage } from './command.ts';
import { whole } from './whole.ts';

export const sessions = [
  command({
    name: 'sessions list',
    modes: ['admin', 'dev'],
    settings: 'store',
    options: {
      user: { takes: 'NAME', says: 'Only those of this user, by name or id.' },
      limit: { takes: 'N', says: 'At most so many; 1000 unless told otherwise.' },
    },
    summary: 'List the sessions that live, newest first',
    examples: [['sessions list', 'of all users'], ['sessions list --user alice', 'of one']],
    columns: [
      { key: 'id' },
      { key: 'username', title: 'user', cut: true },
      { key: 'userId', hidden: true },
      { key: 'createdAt', as: 'time', from: 120 },
      { key: 'lastUsedAt', as: 'ago' },
      { key: 'expiresAt', title: 'expires', as: 'ago', from: 90 },
      { key: 'address', cut: true },
      { key: 'userAgent', cut: true, from: 110 },
    ],
    none: 'There are no live sessions.',
    async does(on, given) {
      const { getUser } = await import('../flows/add-user.ts');
      const limit = whole('--limit', given.limit ?? '1000');
      const { services } = await on.desk();
      const only = given.user === undefined ? undefined : await getUser(services, given.user);
      const found = await services.sessions.listLive({ ...(only && { userId: only.id }), at: on.clock.now(), limit: limit + 1 });
      if (found.length > limit) on.note(`There are more than these ${limit}: --limit shows more, --user fewer.`);

      const names = new Map<string, string>();
      const items = [];
      for (const { id, userId, createdAt, lastUsedAt, expiresAt, address, userAgent } of found.slice(0, limit)) {
        const username = names.get(userId) ?? (await services.users.find(userId))?.username;
        if (username !== undefined) names.set(userId, username);
        items.push({ id, username, userId, createdAt, lastUsedAt, expiresAt, address, userAgent });
      }
      return items;
    },
  }),

  command({
    name: 'sessions end',
    modes: ['admin', 'dev'],
    settings: 'store',
    args: { session: { says: 'Its id, as "sessions list" shows it.', optional: true } },
    options: { user: { takes: 'NAME', says: 'All sessions of this user, by name or id.' } },
    summary: 'End a session, or all of a user',
    about: ['A running server knows within a second: no access or refresh token of the session works from then on. The user may log in again; "users disable" prevents that.'],
    examples: [['sessions end ses_018f…', 'one'], ['sessions end --user alice', 'all of a user']],
    columns: [{ key: 'sessionsEnded' }],
    says: ({ sessionsEnded }) => `${sessionsEnded} ${sessionsEnded === 1 ? 'session' : 'sessions'} ended.`,
    async does(on, given) {
      if ((given.session === undefined) === (given.user === undefined)) throw new WrongUsage('say which: the id of one session, or --user NAME for all of a user');
      const { endSession, endSessionsOf } = await import('../flows/end-session.ts');
      const { services } = await on.desk();
      if (given.user !== undefined) return { sessionsEnded: (await endSessionsOf(services, given.user)).length };
      await endSession(services, given.session ?? '');
      return { sessionsEnded: 1 };
    },
  }),
];
