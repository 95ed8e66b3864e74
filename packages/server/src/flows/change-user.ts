import type { AuditAction } from '../domain/audit/audit.ts';
import type { Ended, EndedBecause } from '../domain/session/session.ts';
import type { Stores } from '../domain/stores.ts';
import type { User } from '../domain/user/user.ts';
import { newId } from '../lib/id.ts';
import { getUser } from './add-user.ts';
import type { Services } from './services.ts';

type On = Pick<Services, 'clock' | 'users' | 'together' | 'revoked'>;

/**
 * Acts of an operator on one user; each ends the user's sessions where it takes something away, in the same transaction.
 * Each writes to the user first, then to the credential, then to sessions: as a login does, or the two would wait for each other.
 */
export const disableUser = (on: On, nameOrId: string): Promise<Ended[]> =>
  change(on, nameOrId, 'user_disabled', 'user_disabled', (stores, user, at) => stores.users.setDisabled(user.id, at));

export const enableUser = (on: On, nameOrId: string): Promise<Ended[]> =>
  change(on, nameOrId, 'user_enabled', undefined, (stores, user) => stores.users.setDisabled(user.id, undefined));

export const removeUser = (on: On, nameOrId: string): Promise<Ended[]> =>
  change(on, nameOrId, 'user_removed', 'user_removed', async (stores, user) => {
    await stores.users.remove(user.id);
    await stores.credentials.remove(user.id);
  });

/** Under the password policy; clears the demo's mark. @throws {Problem} `user_unknown`, or what the policy says. */
export async function setPassword(
  on: On & Pick<Services, 'passwords' | 'checkNewPassword'>,
  nameOrId: string,
  password: string,
): Promise<Ended[]> {
  const { username } = await getUser(on, nameOrId);
  on.checkNewPassword(password, username);
  const passwordHash = await on.passwords.hash(password);
  return change(on, nameOrId, 'password_set', 'password_changed', async (stores, user, at) => {
    await stores.users.unmarkDemo(user.id);
    await stores.credentials.setPassword(user.id, passwordHash, at);
  });
}

async function change(
  on: On,
  nameOrId: string,
  action: AuditAction,
  ends: EndedBecause | undefined,
  act: (stores: Stores, user: User, at: number) => Promise<unknown>,
): Promise<Ended[]> {
  const { id } = await getUser(on, nameOrId);
  const at = on.clock.now();
  const ended = await on.together(async (stores) => {
    const user = await getUser(stores, id);
    await act(stores, user, at);
    await stores.audit.add({ id: newId('audit'), at, action, by: 'operator', userId: user.id, username: user.username, count: 1 });
    return ends ? stores.sessions.endAllOf(user.id, ends, at) : [];
  });
  await on.revoked.add(ended);
  return ended;
}
