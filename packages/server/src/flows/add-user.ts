import { Problem } from '../domain/problem.ts';
import { checkUsername, type User } from '../domain/user/user.ts';
import { newId } from '../lib/id.ts';
import type { Services } from './services.ts';

/**
 * @throws {Problem} `username_invalid`, `username_taken`, or what the password policy says.
 */
export async function addUser(
  on: Pick<Services, 'clock' | 'together' | 'passwords' | 'checkNewPassword'>,
  username: string,
  password: string,
): Promise<User> {
  checkUsername(username);
  on.checkNewPassword(password, username);
  return storeUser(on, username, password, false);
}

/** The demo's user, past the password policy and marked as such: `serve` starts with no store that has one. */
export async function addDemoUser(
  on: Pick<Services, 'clock' | 'together' | 'passwords' | 'users'>,
  username: string,
  password: string,
): Promise<void> {
  if (await on.users.findByName(username)) return;
  await storeUser(on, username, password, true);
}

async function storeUser(
  on: Pick<Services, 'clock' | 'together' | 'passwords'>,
  username: string,
  password: string,
  isDemo: boolean,
): Promise<User> {
  // The hash is awaited before the transaction: argon2 takes 11 ms of CPU and SQLite has one writer.
  const passwordHash = await on.passwords.hash(password);
  const at = on.clock.now();
  const user: User = { id: newId('user'), username, createdAt: at, disabledAt: undefined, isDemo };
  await on.together(async ({ users, credentials, audit }) => {
    await users.add(user);
    await credentials.setPassword(user.id, passwordHash, at);
    await audit.add({
      id: newId('audit'),
      at,
      action: 'user_added',
      by: isDemo ? 'server' : 'operator',
      userId: user.id,
      username,
      count: 1,
    });
  });
  return user;
}

/** A user by id or by any spelling of the name. @throws {Problem} `user_unknown` */
export async function getUser(on: Pick<Services, 'users'>, nameOrId: string): Promise<User> {
  const user = (await on.users.find(nameOrId)) ?? (await on.users.findByName(nameOrId));
  if (!user) throw new Problem('user_unknown');
  return user;
}
