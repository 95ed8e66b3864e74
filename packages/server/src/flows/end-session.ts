import { Problem } from '../domain/problem.ts';
import type { Ended } from '../domain/session/session.ts';
import { newId } from '../lib/id.ts';
import { getUser } from './add-user.ts';
import type { Services } from './services.ts';

type On = Pick<Services, 'clock' | 'together' | 'revoked' | 'users'>;

/** An operator ends one session. @throws {Problem} `session_unknown` when it is not living. */
export async function endSession(on: On, sessionId: string): Promise<Ended> {
  const at = on.clock.now();
  const ended = await on.together(async ({ sessions, audit }) => {
    const session = await sessions.end(sessionId, 'admin', at);
    if (session)
      await audit.add({
        id: newId('audit'),
        at,
        action: 'sessions_ended',
        by: 'operator',
        userId: session.userId,
        sessionId,
        reason: 'admin',
        count: 1,
      });
    return session;
  });
  if (!ended) throw new Problem('session_unknown');
  await on.revoked.add([ended]);
  return ended;
}

/** An operator ends all sessions of a user. @throws {Problem} `user_unknown` */
export async function endSessionsOf(on: On, nameOrId: string): Promise<Ended[]> {
  const user = await getUser(on, nameOrId);
  const at = on.clock.now();
  const ended = await on.together(async ({ sessions, audit }) => {
    const all = await sessions.endAllOf(user.id, 'admin', at);
    if (all.length)
      await audit.add({
        id: newId('audit'),
        at,
        action: 'sessions_ended',
        by: 'operator',
        userId: user.id,
        username: user.username,
        reason: 'admin',
        count: all.length,
      });
    return all;
  });
  await on.revoked.add(ended);
  return ended;
}
