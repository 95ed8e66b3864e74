import { Problem } from '../domain/problem.ts';
import { confirm, newPassword } from './ask.ts';
import { command, type Given, type On } from './command.ts';
import type { Column } from './print.ts';

const user = { says: 'Its name, in any spelling that counts as the same, or its id.' } as const;
const passwordStdin = { says: 'Take the first line of the standard input as the password, without its line end.' } as const;
const howToGiveIt = 'The password is asked for twice and not shown. For a program, give it on the standard input: it is never an argument, which every process of the machine can read.';
const atOnce = 'A running server knows within a second.';

type ShownUser = { username: string; id: string; createdAt: number; state: string; disabledAt: number | undefined; isDemo: boolean };

const userColumns: readonly Column<ShownUser>[] = [
  { key: 'username', cut: true },
  { key: 'id' },
  { key: 'createdAt', as: 'time', from: 100 },
  { key: 'state', style: ({ state }) => (state === 'enabled' ? 'green' : state === 'disabled' ? 'red' : 'yellow') },
  { key: 'disabledAt', as: 'time', hidden: true },
  { key: 'isDemo', hidden: true },
];

const fullColumns: readonly Column<ShownUser & { passwordSetAt: number | undefined; liveSessions: number }>[] = [
  ...userColumns,
  { key: 'passwordSetAt', as: 'time' },
  { key: 'liveSessions' },
];

type Changed = { username: string; id: string; sessionsEnded: number };

const changedColumns: readonly Column<Changed>[] = [{ key: 'username' }, { key: 'id' }, { key: 'sessionsEnded' }];

export const users = [
  command({
    name: 'users add',
    modes: ['admin', 'dev'],
    settings: 'store',
    args: { name: { says: '1 to 64 characters.' } },
    options: { passwordStdin },
    summary: 'Add a user',
    about: [
      howToGiveIt,
      'The first user can be added before the first "serve": where there is no store yet, one is made.',
    ],
    examples: [
      ['users add alice', 'asks for the password'],
      ['users add alice --password-stdin < password.txt', 'for a program'],
    ],
    columns: [{ key: 'username' }, { key: 'id' }, { key: 'createdAt', as: 'time' }],
    says: ({ username, id }) => `Added "${username}" (${id}).`,
    async does(on, given) {
      const { checkUsername } = await import('../domain/user/user.ts');
      const { addUser } = await import('../flows/add-user.ts');
      const { newPasswordCheck } = await import('../desk.ts');
      const { hasStore } = await import('./open-store.ts');
      // Nothing is made, and nobody types a password twice, for a user that cannot be.
      checkUsername(given.name);
      if (hasStore(on.settings()) && await (await on.desk()).services.users.findByName(given.name)) throw new Problem('username_taken');
      const password = await newPassword(on, given, `"${given.name}"`);
      newPasswordCheck(on.settings())(password, given.name);
      const { services } = await on.desk({ make: true });
      const { username, id, createdAt } = await addUser(services, given.name, password);
      return { username, id, createdAt };
    },
  }),

  command({
    name: 'users list',
    modes: ['admin', 'dev'],
    settings: 'store',
    summary: 'List all users',
    about: ['"demo" marks the user that "portcullis dev" made, whose password everyone knows: "serve" starts with no such user in its store, and "users set-password" takes the mark away.'],
    examples: [['users list', 'in the order of their names'], ['users list --json', 'for a program']],
    columns: userColumns,
    none: 'There are no users yet: "portcullis users add NAME" adds one.',
    async does(on) {
      const { services } = await on.desk();
      const all: ShownUser[] = [];
      for (let page = await services.users.list({ limit: 500 }); page.length > 0; page = await services.users.list({ limit: 500, after: page.at(-1)?.username ?? '' })) {
        all.push(...page.map(shown));
      }
      return all;
    },
  }),

  command({
    name: 'users show',
    modes: ['admin', 'dev'],
    settings: 'store',
    args: { user },
    summary: 'Show one user',
    examples: [['users show alice', 'by name'], ['users show usr_018f… --json', 'by id, for a program']],
    columns: fullColumns,
    async does(on, given) {
      const { getUser } = await import('../flows/add-user.ts');
      const { services } = await on.desk();
      const found = await getUser(services, given.user);
      const password = await services.credentials.findPassword(found.id);
      const live = await services.sessions.listLive({ userId: found.id, at: on.clock.now(), limit: 100_000 });
      return { ...shown(found), passwordSetAt: password?.changedAt, liveSessions: live.length };
    },
  }),

  command({
    name: 'users disable',
    modes: ['admin', 'dev'],
    settings: 'store',
    args: { user },
    summary: 'Let a user in no more, and end the sessions',
    about: [atOnce],
    examples: [['users disable alice', 'until "users enable alice"']],
    columns: changedColumns,
    says: ({ username, sessionsEnded }) => `Disabled "${username}"; ${sessions(sessionsEnded)} ended.`,
    does: (on, given) => change(on, given, 'disableUser'),
  }),

  command({
    name: 'users enable',
    modes: ['admin', 'dev'],
    settings: 'store',
    args: { user },
    summary: 'Let a disabled user in again',
    examples: [['users enable alice', 'with the password of before']],
    columns: changedColumns.filter(({ key }) => key !== 'sessionsEnded'),
    says: ({ username }) => `Enabled "${username}".`,
    does: (on, given) => change(on, given, 'enableUser'),
  }),

  command({
    name: 'users unlock',
    modes: ['admin', 'dev'],
    settings: 'store',
    args: { user },
    summary: 'Forget what strangers have guessed at a user, and let the next one try',
    about: [
      'For who is kept out by "too_many_attempts" and has no device that is known. While guessing goes on, it is soon kept out again: the address blocks in the security log can be shut out before this server.',
      'The counts are kept under the master secret, so this needs PORTCULLIS_MASTER_SECRET (or PORTCULLIS_MASTER_SECRET_FILE), the one that the server has. A running server knows at once.',
    ],
    examples: [['users unlock alice', 'by name']],
    columns: [{ key: 'username' }, { key: 'id' }, { key: 'guessesCleared' }],
    says: ({ username, guessesCleared }) => `Unlocked "${username}": ${guessesCleared} ${guessesCleared === 1 ? 'guess' : 'guesses'} forgotten.`,
    async does(on, given) {
      const { guessPlaces } = await import('../domain/guess/guess-places.ts');
      const { unlockUser } = await import('../flows/unlock-user.ts');
      const { openSecret } = await import('./keys.ts');
      const desk = await on.desk();
      const { user: { username, id }, cleared } = await unlockUser({ ...desk.services, guessPlaces: guessPlaces(await openSecret(on, desk, 'guesses are counted under it')) }, given.user);
      return { username, id, guessesCleared: cleared };
    },
  }),

  command({
    name: 'users set-password',
    modes: ['admin', 'dev'],
    settings: 'store',
    args: { user },
    options: { passwordStdin },
    summary: 'Give a user another password, and end the sessions',
    about: [howToGiveIt, `It also takes away the mark of the demo's user. ${atOnce}`],
    examples: [
      ['users set-password alice', 'asks for the password'],
      ['users set-password alice --password-stdin < password.txt', 'for a program'],
    ],
    columns: changedColumns,
    says: ({ username, sessionsEnded }) => `Set the password of "${username}"; ${sessions(sessionsEnded)} ended.`,
    async does(on, given) {
      const { getUser } = await import('../flows/add-user.ts');
      const { setPassword } = await import('../flows/change-user.ts');
      const { services } = await on.desk();
      const { id, username } = await getUser(services, given.user);
      const password = await newPassword(on, given, `"${username}"`);
      const ended = await setPassword(services, id, password);
      return { username, id, sessionsEnded: ended.length };
    },
  }),

  command({
    name: 'users remove',
    modes: ['admin', 'dev'],
    settings: 'store',
    args: { user },
    options: { yes: { says: 'Do not ask.' } },
    summary: 'Remove a user for good, and end the sessions',
    about: [`It is asked for once more on a terminal; elsewhere --yes must be said. What the audit says of the user stays. ${atOnce}`],
    examples: [['users remove alice', 'asks first'], ['users remove alice --yes', 'for a program']],
    columns: changedColumns,
    says: ({ username, sessionsEnded }) => `Removed "${username}"; ${sessions(sessionsEnded)} ended.`,
    async does(on, given) {
      const { getUser } = await import('../flows/add-user.ts');
      const { username, id } = await getUser((await on.desk()).services, given.user);
      if (!given.yes) await confirm(on, `Remove "${username}" (${id}) for good?`);
      return change(on, { user: id }, 'removeUser');
    },
  }),
];

function shown({ username, id, createdAt, disabledAt, isDemo }: { username: string; id: string; createdAt: number; disabledAt: number | undefined; isDemo: boolean }): ShownUser {
  return { username, id, createdAt, state: disabledAt !== undefined ? 'disabled' : isDemo ? 'enabled, demo' : 'enabled', disabledAt, isDemo };
}

async function change(on: On, given: Given<{ user: { says: string } }, {}>, act: 'disableUser' | 'enableUser' | 'removeUser'): Promise<Changed> {
  const { getUser } = await import('../flows/add-user.ts');
  const flows = await import('../flows/change-user.ts');
  const { services } = await on.desk();
  const { username, id } = await getUser(services, given.user);
  const ended = await flows[act](services, id);
  return { username, id, sessionsEnded: ended.length };
}

const sessions = (count: number): string => `${count} ${count === 1 ? 'session' : 'sessions'}`;
