export type PasswordFault = 'password_too_short' | 'password_too_long' | 'password_common' | 'password_has_context';

export type PasswordPolicyOptions = {
  /** In code points. */
  readonly minLength: number;
  /** Passwords that everybody tries first, in lower case. Asked for only once the other rules are met. */
  readonly blocked: () => ReadonlySet<string>;
};

export type PasswordPolicy = {
  /** Why this may not become the user's password; `undefined` if it may. */
  check(password: string, user: { readonly username: string }): PasswordFault | undefined;
};

/** In code points; NIST asks for at least 64. It bounds what is hashed and is far beyond what anybody types. */
const maxLength = 256;

/** What this installation is called: the first words somebody would try here (ASVS 6.1.2). */
const contextWords = ['portcullis'];

/** A shorter username turns up in honest pass phrases by chance. */
const minUsernameLength = 4;

/**
 * NIST SP 800-63B-4 section 3.1.1.2 and ASVS 5.0 section 6.2: long, and not one that is tried first. Any character may stand in it
 * and none must. Comparison is by {@link fold}; what is hashed later is the password as it was typed.
 */
export function passwordPolicy({ minLength, blocked }: PasswordPolicyOptions): PasswordPolicy {
  return {
    check(password, { username }) {
      const length = countPoints(password);
      if (length < minLength) return 'password_too_short';
      if (length > maxLength) return 'password_too_long';

      const folded = fold(password);
      const name = fold(username);
      const words = countPoints(name) < minUsernameLength ? contextWords : [...contextWords, name];
      if (words.some((word) => folded.includes(word))) return 'password_has_context';

      // Repetition adds nothing that a guesser would not try, so a repeated unit is judged as if it stood alone.
      const unit = repeatedUnit(folded);
      if (unit !== undefined && (countPoints(unit) < minLength || blocked().has(unit))) return 'password_common';
      if (blocked().has(folded)) return 'password_common';
      return undefined;
    },
  };
}

/** Letters of either case, and characters that only look different (full width, composed or not), become one. */
function fold(text: string): string {
  return text.normalize('NFKC').toLowerCase();
}

/** What the text repeats at least twice, the last time perhaps cut short ("abcabcab" repeats "abc"). */
function repeatedUnit(text: string): string | undefined {
  const points = [...text];
  for (let size = 1; size <= points.length / 2; size++) {
    if (points.every((point, at) => at < size || point === points[at - size])) return points.slice(0, size).join('');
  }
  return undefined;
}

function countPoints(text: string): number {
  return [...text].length;
}
