import { plainText } from '../domain/audit/audit.ts';
import { Problem } from '../domain/problem.ts';
import type { PasswordCredential } from '../domain/credential/credential.ts';
import type { Guess } from '../domain/guess/guess.ts';
import { type User, usernameKey } from '../domain/user/user.ts';
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
  | 'guessTurns'
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
export async function login(on: On, request: LoginRequest, sender: Sender, left?: string): Promise<Required<Tokens>> {
  on.passwords.assertRoom();
  const name = usernameKey(request.username);
  const user = await on.users.findByName(request.username);
  const credential = await on.credentials.findPassword(user?.id ?? newId('user'));
  const known = { nameKey: name, passwordVersion: credential?.version ?? 0 };
  const deviceId = on.deviceTokens.read(request.deviceToken, known, on.clock.now());
  const place = deviceId === undefined ? on.guessPlaces.ofStrangers(name) : on.guessPlaces.ofDevice(name, deviceId);
  const attempt = { name, shownName: plainText(request.username), deviceId, sender };
  const outcome = await on.guessTurns.with(
    place.key,
    () => on.together(({ guesses }) => guesses.take(place, on.clock.now())),
    async (guess) => {
      const isRight = await orGiveBack(on, guess, on.passwords.verify(request.password, credential?.passwordHash, sender.gone));
      const reason = refusalOf(user, isRight);
      if (!user || !credential || reason) return refuse(on, attempt, user?.id, reason ?? 'no password');
      const opened = await orGiveBack(on, guess, openSession(on, attempt, user, credential, guess, left));
      return opened ?? refuse(on, attempt, user.id, 'changed meanwhile');
    },
  );
  if ('done' in outcome) return outcome.done;
  throw new Problem('too_many_attempts', deviceId === undefined ? 'unknown device' : 'known device', {
    retryAfterS: Math.max(1, Math.ceil((outcome.retryAt - on.clock.now()) / 1_000)),
    logged: { username: attempt.shownName },
  });
}

/** Who tries, as far as it is known before the password is. */
type Attempt = { readonly name: string; readonly shownName: string; readonly deviceId: string | undefined; readonly sender: Sender };

/** What fails on our side is no guess: whoever has the right password is not kept out for it. If even this cannot be written, it stays counted. */
async function orGiveBack<T>(on: On, guess: Guess, work: Promise<T>): Promise<T> {
  try {
    return await work;
  } catch (error) {
    await on.together(({ guesses }) => guesses.giveBack(guess)).catch(() => {});
    throw error;
  }
}

/** For the log and the audit alone: whoever asks is told the same of all of them. */
function refusalOf(user: User | undefined, isRight: boolean): string | undefined {
  if (!user) return 'unknown user';
  if (!isRight) return 'wrong password';
  return user.disabledAt === undefined ? undefined : 'disabled';
}

/** `undefined` when the password or the user has changed since they were looked at. */
async function openSession(
  on: On,
  { name, shownName, deviceId, sender }: Attempt,
  user: User,
  credential: PasswordCredential,
  guess: Guess,
  left: string | undefined,
): Promise<Required<Tokens> | undefined> {
  await on.revoked.current(); // an operator may just have taken away the key that would sign
  const at = on.clock.now();
  const id = newId('session');
  const first = on.refreshTokens.first(id);
  const session = {
    id,
    userId: user.id,
    createdAt: at,
    authenticatedAt: at,
    expiresAt: at + on.lifetimes.refreshTokenTtlMs,
    accessUntil: on.accessTokens.expiryFor(at),
    address: sender.address,
    userAgent: plainText(sender.userAgent, 256),
    tokenHash: first.hash,
  };
  // Signed before anything is stored: a session that nobody got a token of must not be there.
  const access = await on.accessTokens.mint(user, session, at);
  const replaced = left === undefined ? undefined : on.refreshTokens.read(left);
  const entry = {
    at,
    by: 'user',
    userId: user.id,
    username: shownName,
    address: sender.address,
    requestId: sender.requestId,
    count: 1,
  } as const;
  const ended = await on.together(async (stores) => {
    const { sessions, audit, guesses } = stores;
    if ((await sessions.add(session, credential.version)) === 'outdated') return undefined;
    const loggedOut = replaced ? await endLoggedOut(stores, replaced.sessionId, sender, at) : [];
    const oldest = await sessions.endOldest(session, on.lifetimes.sessionsPerUser, at);
    await guesses.giveBack(guess);
    await audit.add({ ...entry, id: newId('audit'), action: 'login', sessionId: id });
    for (const { id: sessionId } of oldest)
      await audit.add({ ...entry, id: newId('audit'), action: 'sessions_ended', sessionId, reason: 'too_many' });
    return [...loggedOut, ...oldest];
  });
  if (!ended) return undefined;
  await Promise.try(on.revoked.add, ended).catch(unlessPending);
  return {
    accessToken: access.text,
    refreshToken: first.text,
    expiresInS: access.expiresInS,
    sessionId: id,
    sessionEndsInS: Math.floor(on.lifetimes.refreshTokenTtlMs / 1_000),
    deviceToken: on.deviceTokens.issue({ nameKey: name, passwordVersion: credential.version }, at, deviceId),
  };
}

/** No login fails for the sake of a session that made room for it: others hear of that within seconds. */
function unlessPending(error: unknown): void {
  if (!(error instanceof Problem) || error.code !== 'revocation_pending') throw error;
}

/** @throws {Problem} `credentials_invalid`, once it is on record. */
async function refuse(on: On, { name, shownName, sender }: Attempt, userId: string | undefined, reason: string): Promise<never> {
  const { address, block, requestId } = sender;
  const at = on.clock.now();
  const failed = { at, action: 'login_failed', by: 'user', requestId, count: 1 } as const;
  const spraying = on.sprayWatch.failed(block, name);
  await on.together(async ({ audit }) => {
    await audit.tally(
      spraying
        ? { ...failed, id: spraying.sumId, address: block, reason: 'many names' }
        : { ...failed, id: newId('audit'), userId, username: shownName, address, reason },
    );
    if (!spraying?.isNews) return;
    const told = { action: 'password_spraying', by: 'server', reason: `${spraying.names} names within an hour` } as const;
    await audit.add({ ...failed, id: newId('audit'), address: block, ...told });
  });
  throw new Problem('credentials_invalid', reason, { logged: { username: shownName } });
}
