import { type User, usernameKey } from '../domain/user/user.ts';
import { newId } from '../lib/id.ts';
import { getUser } from './add-user.ts';
import type { Services } from './services.ts';

/**
 * An operator forgets what strangers have guessed at a user's name: the next attempt is let in, whoever makes it. What
 * known devices have tried stays; that is over within the hour.
 * @throws {Problem} `user_unknown`
 */
export async function unlockUser(
  on: Pick<Services, 'clock' | 'users' | 'together' | 'guessPlaces'>,
  nameOrId: string,
): Promise<{ user: User; cleared: number }> {
  const user = await getUser(on, nameOrId);
  const { id: userId, username } = user;
  const at = on.clock.now();
  const cleared = await on.together(async ({ guesses, audit }) => {
    const count = await guesses.clear(on.guessPlaces.ofStrangers(usernameKey(username)), at);
    const reason = `${count} ${count === 1 ? 'guess' : 'guesses'}`;
    await audit.add({ id: newId('audit'), at, action: 'guesses_cleared', by: 'operator', userId, username, reason, count: 1 });
    return count;
  });
  return { user, cleared };
}
