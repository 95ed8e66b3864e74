import type { Caller } from '@portcullis/guard';
import type { Ended } from '../domain/session/session.ts';
import type { Stores } from '../domain/stores.ts';
import { newId } from '../lib/id.ts';
import type { Sender, Services } from './services.ts';

type On = Pick<Services, 'clock' | 'together' | 'revoked' | 'refreshTokens'>;

/** Ends the caller's session: committed, then refused everywhere, then answered. */
export const logout = (on: On, caller: Pick<Caller, 'sessionId'>, sender: Sender): Promise<void> =>
  endOwnSession(on, caller.sessionId, sender);

/**
 * The same by a refresh token, so that logging out works after the access token has expired. A text that is no refresh
 * token of ours, or of a session that has ended, changes nothing and is told nothing (RFC 7009 section 2.2).
 */
export async function logoutByRefreshToken(on: On, presented: string, sender: Sender): Promise<void> {
  const token = on.refreshTokens.read(presented);
  if (token) await endOwnSession(on, token.sessionId, sender);
}

async function endOwnSession(on: On, sessionId: string, sender: Sender): Promise<void> {
  const at = on.clock.now();
  const ended = await on.together((stores) => endLoggedOut(stores, sessionId, sender, at));
  await on.revoked.add(ended);
}

/** What a log-out writes, inside a transaction; the session, where it has ended by this or before. */
export async function endLoggedOut({ sessions, audit }: Stores, sessionId: string, sender: Sender, at: number): Promise<Ended[]> {
  const session = await sessions.end(sessionId, 'logout', at);
  if (!session) {
    const before = await sessions.find(sessionId);
    return before?.endedAt !== undefined && before.accessUntil > at ? [before] : []; // not everybody may have heard of it yet
  }
  await audit.add({
    id: newId('audit'),
    at,
    action: 'logout',
    by: 'user',
    userId: session.userId,
    sessionId,
    address: sender.address,
    requestId: sender.requestId,
    count: 1,
  });
  return [session];
}
