import { plainText } from '../domain/audit/audit.ts';
import { Problem } from '../domain/problem.ts';
import { usernameKey } from '../domain/user/user.ts';
import { newId } from '../lib/id.ts';
import { sha256 } from '../lib/seal.ts';
import { endLoggedOut } from './logout.ts';
import type { Sender, Services, Tokens } from './services.ts';

/**
 * Opens a session for who knows the password. A wrong password, an unknown user and a disabled one cost the same reads,
 * the same one hash and the same one write, and get the same answer.
 * @param left a refresh token that the new ones take the place of, in the same browser: its session ends with the login
 *   (ASVS V7.2.4). A text that is no refresh token of ours changes nothing.
 * @throws {Problem} `credentials_invalid`, `server_busy`
 */
export async function login(
  on: Pick<
    Services,
    | 'clock'
    | 'users'
    | 'credentials'
    | 'passwords'
    | 'together'
    | 'refreshTokens'
    | 'accessTokens'
    | 'revoked'
    | 'failureTally'
    | 'lifetimes'
  >,
  { username, password }: { username: string; password: string },
  sender: Sender,
  left?: string,
): Promise<Tokens> {
  const user = await on.users.findByName(username);
  const credential = await on.credentials.findPassword(user?.id ?? newId('user'));
  const isRight = await on.passwords.verify(password, credential?.passwordHash, sender.gone);

  const at = on.clock.now();
  const attempt = {
    at,
    by: 'user',
    userId: user?.id,
    username: plainText(username),
    address: sender.address,
    requestId: sender.requestId,
    count: 1,
  } as const;
  const reason = !user ? 'unknown user' : !isRight ? 'wrong password' : user.disabledAt !== undefined ? 'disabled' : undefined;
  if (!user || !credential || reason) return refuse(reason ?? 'no password');

  await on.revoked.current(); // an operator may just have taken away the key that would sign
  const session = newSession();
  // Signed before anything is stored: a session that nobody got a token of must not be there.
  const access = await on.accessTokens.mint(user, session, at);
  const replaced = left === undefined ? undefined : on.refreshTokens.read(left);
  const ended = await on.together(async (stores) => {
    const { sessions, audit } = stores;
    if ((await sessions.add(session, credential.version)) === 'outdated') return undefined;
    const loggedOut = replaced ? await endLoggedOut(stores, replaced.sessionId, sender, at) : [];
    const oldest = await sessions.endOldest(session, on.lifetimes.sessionsPerUser, at);
    await audit.add({ ...attempt, id: newId('audit'), action: 'login', sessionId: session.id });
    for (const { id } of oldest)
      await audit.add({ ...attempt, id: newId('audit'), action: 'sessions_ended', sessionId: id, reason: 'too_many' });
    return [...loggedOut, ...oldest];
  });
  if (!ended) return refuse('changed meanwhile');
  on.revoked.add(ended);
  return {
    accessToken: access.text,
    refreshToken: session.first.text,
    expiresInS: access.expiresInS,
    sessionId: session.id,
    sessionEndsInS: Math.floor(on.lifetimes.refreshTokenTtlMs / 1_000),
  };

  function newSession() {
    const id = newId('session');
    const first = on.refreshTokens.first(id);
    return {
      id,
      userId: user?.id ?? '',
      createdAt: at,
      authenticatedAt: at,
      expiresAt: at + on.lifetimes.refreshTokenTtlMs,
      accessUntil: on.accessTokens.expiryFor(at),
      address: sender.address,
      userAgent: plainText(sender.userAgent, 256),
      tokenHash: first.hash,
      first,
    };
  }

  async function refuse(why: string): Promise<never> {
    const sumId = on.failureTally.rowFor(sha256(usernameKey(username)));
    await on.together(({ audit }) => audit.tally({ ...attempt, id: sumId ?? newId('audit'), action: 'login_failed', reason: why }));
    throw new Problem('credentials_invalid', why, { logged: { username: attempt.username } });
  }
}
