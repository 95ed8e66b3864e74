import { Problem } from '../problem.ts';

export type User = {
  readonly id: string;
  /** As it was added; what a caller sees. */
  readonly username: string;
  readonly createdAt: number;
  readonly disabledAt: number | undefined;
  /** Made by `portcullis dev`, past the password policy; `serve` refuses a store that has one. */
  readonly isDemo: boolean;
};

export interface Users {
  /** @throws {Problem} `username_taken` */
  add(user: User): Promise<void>;
  find(id: string): Promise<User | undefined>;
  /** By any spelling of the name, see {@link usernameKey}. */
  findByName(username: string): Promise<User | undefined>;
  /** In the order of their names, from the one behind `after`. */
  list(page: { after?: string; limit: number }): Promise<User[]>;
  /** False when there is no such user. */
  setDisabled(id: string, at: number | undefined): Promise<boolean>;
  unmarkDemo(id: string): Promise<void>;
  remove(id: string): Promise<boolean>;
  findDemo(): Promise<User | undefined>;
}

/** A name whose key would be longer could be told apart from another only by what is cut off. */
const LONGEST_KEY = 256;

/**
 * All spellings of a name that count as the same: compatibility forms folded (NFKC), case folded, blanks trimmed and
 * run together. Longer texts than any username are cut, so that the key is bounded, and NUL, which not every store can
 * be asked for, is another control character; no user can have such names.
 */
export const usernameKey = (username: string): string =>
  username
    .slice(0, 1_024)
    .replaceAll('\0', '\u0001')
    .normalize('NFKC')
    .trim()
    .replace(/\s+/gu, ' ')
    .toLowerCase()
    .normalize('NFKC')
    .slice(0, LONGEST_KEY)
    .toWellFormed();

/** @throws {Problem} `username_invalid` */
export function checkUsername(username: string): void {
  const length = [...username].length;
  const isPlain = !/[\p{C}\p{Zl}\p{Zp}]/u.test(username) && !/^\s|\s$|\s\s/u.test(username);
  const key = usernameKey(username);
  if (length < 1 || length > 64 || !isPlain || key === '' || key.length >= LONGEST_KEY) throw new Problem('username_invalid');
}
