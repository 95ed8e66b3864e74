import { addressBlock } from '@portcullis/guard';
import { plainText } from '../domain/audit/audit.ts';
import { Problem } from '../domain/problem.ts';
import { usernameKey } from '../domain/user/user.ts';
import { newId } from '../lib/id.ts';
import { endLoggedOut } from './logout.ts';
import type { Sender, Services, Tokens } from './services.ts';

type On = Pick<
  Services,
  | 'clock'
  | 'users'
  | 'credentials'
  | 'passwords'
  | 'together'
  | 'refreshTokens'
  | 'accessTokens'
  | 'deviceTokens'
  | 'guessPlaces'
  | 'sprayWatch'
  | 'revoked'
  | 'lifetimes'
>;

/** A device token that is none, another name's or too old makes its sender a stranger, and nothing else. */
export type LoginRequest = { readonly username: string; readonly password: string; readonly deviceToken?: string | undefined };

/**
 * Opens a session for who knows the password. A wrong password, an unknown user and a disabled one cost the same reads,
 * the same one hash and the same writes, and get the same answer. The attempt counts before any of that, so that neither
 * many at once nor a crash give a guess for nothing, and is given back with the session.
 * @param left a refresh token that the new ones take the place of, in the same browser: its session ends with the login
 *   (ASVS V7.2.4). A text that is no refresh token of ours changes nothing.
 * @throws {Problem} `credentials_invalid`, `too_many_attempts`, `server_busy`
 */
export async function login(
  on: On,
  { username, password, deviceToken }: LoginRequest,
  sender: Sender,
  left?: string,
): Promise<Required<Tokens>> {
  on.passwords.assertRoom();
  const name = usernameKey(username);
  const shownName = plainText(username);
  const deviceId = on.deviceTokens.read(deviceToken, name, on.clock.now());
  const guess = await countGuess();
  const { user, credential, isRight } = await check().catch(async (error: unknown) => {
    // Nobody has learned anything of the password. If even this cannot be written, the attempt stays counted.
    await on.together(({ guesses }) => guesses.giveBack(guess)).catch(() => {});
    throw error;
  });

  const at = on.clock.now();
  const attempt = {
    at,
    by: 'user',
    userId: user?.id,
    username: shownName,
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
    const { sessions, audit, guesses } = stores;
    if ((await sessions.add(session, credential.version)) === 'outdated') return undefined;
    const loggedOut = replaced ? await endLoggedOut(stores, replaced.sessionId, sender, at) : [];
    const oldest = await sessions.endOldest(session, on.lifetimes.sessionsPerUser, at);
    await guesses.giveBack(guess);
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
    deviceToken: on.deviceTokens.issue(name, at, deviceId),
  };

  async function countGuess() {
    const place = deviceId === undefined ? on.guessPlaces.ofStrangers(name) : on.guessPlaces.ofDevice(name, deviceId);
    const now = on.clock.now();
    const taken = await on.together(({ guesses }) => guesses.take(place, now));
    if (!('retryAt' in taken)) return taken;
    throw new Problem('too_many_attempts', deviceId === undefined ? 'unknown device' : 'known device', {
      retryAfterS: Math.ceil((taken.retryAt - now) / 1_000),
      logged: { username: shownName },
    });
  }

  async function check() {
    const user = await on.users.findByName(username);
    const credential = await on.credentials.findPassword(user?.id ?? newId('user'));
    const isRight = await on.passwords.verify(password, credential?.passwordHash, sender.gone);
    return { user, credential, isRight };
  }

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
    const block = addressBlock(sender.address);
    const spraying = on.sprayWatch.failed(block, name);
    const { requestId } = sender;
    await on.together(async ({ audit }) => {
      await audit.tally(
        spraying
          ? { id: spraying.sumId, at, action: 'login_failed', by: 'user', address: block, requestId, reason: 'many names', count: 1 }
          : { ...attempt, id: newId('audit'), action: 'login_failed', reason: why },
      );
      if (!spraying?.isNews) return;
      const reason = `${spraying.names} names within an hour`;
      await audit.add({ id: newId('audit'), at, action: 'password_spraying', by: 'server', address: block, requestId, reason, count: 1 });
    });
    throw new Problem('credentials_invalid', why, { logged: { username: shownName } });
  }
}
