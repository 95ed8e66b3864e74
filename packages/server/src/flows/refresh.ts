import { Problem } from '../domain/problem.ts';
import { newId } from '../lib/id.ts';
import type { Sender, Services, Tokens } from './services.ts';

/**
 * The next refresh token of a session's chain, and an access token. The same token presented again within the grace gets
 * the same successor; any other replay of a token that was ours ends the session, for thief and owner alike.
 * @throws {Problem} `token_invalid`, `token_expired`, `token_revoked`
 */
export async function refresh(
  on: Pick<Services, 'clock' | 'together' | 'refreshTokens' | 'accessTokens' | 'revoked' | 'lifetimes'>,
  presented: string,
  sender: Sender,
): Promise<Tokens> {
  const token = on.refreshTokens.read(presented);
  if (!token) throw new Problem('token_invalid', 'not a refresh token of ours');
  await on.revoked.current(); // an operator may just have taken away the key that would sign
  const next = on.refreshTokens.next(token);
  const at = on.clock.now();

  const { rotation, user } = await on.together(async ({ sessions, users, audit }) => {
    const rotation = await sessions.rotate({
      id: token.sessionId,
      presentedHash: token.hash,
      nextHash: next.hash,
      successorSeal: next.seal,
      at,
      graceMs: on.lifetimes.refreshGraceMs,
      idleMs: on.lifetimes.sessionIdleTtlMs,
      accessUntil: on.accessTokens.expiryFor(at),
    });
    if (rotation.outcome === 'replayed') {
      await audit.add({
        id: newId('audit'),
        at,
        action: 'refresh_replayed',
        by: 'user',
        userId: rotation.ended.userId,
        sessionId: token.sessionId,
        address: sender.address,
        requestId: sender.requestId,
        reason: `generation ${token.generation}`,
        count: 1,
      });
    }
    return { rotation, user: 'session' in rotation ? await users.find(rotation.session.userId) : undefined };
  });

  switch (rotation.outcome) {
    case 'expired':
      throw new Problem('token_expired', 'session');
    case 'ended':
      throw new Problem('token_revoked', 'session ended');
    case 'replayed':
      await on.revoked.add([rotation.ended]);
      throw new Problem('token_revoked', 'replayed');
    case 'rotated':
    case 'repeated': {
      const successor = rotation.outcome === 'rotated' ? next.text : on.refreshTokens.unseal(token, rotation.successorSeal);
      if (!user || successor === undefined)
        throw new Error(`session ${token.sessionId} has no user, or a seal that its token does not open`);
      const access = await on.accessTokens.mint(user, rotation.session, at);
      return {
        accessToken: access.text,
        refreshToken: successor,
        expiresInS: access.expiresInS,
        sessionId: token.sessionId,
        sessionEndsInS: Math.floor((rotation.session.expiresAt - at) / 1_000),
      };
    }
  }
}
