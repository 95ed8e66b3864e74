import { createRequire } from 'node:module';

/**
 * The 49,233 most common passwords, all in lower case, read when first asked for and then kept: a server that sets no
 * password never pays for them (some 30 ms and 10 to 25 MB). It is `require` because that can be asked for late and answers at once.
 */
export function commonPasswords(): () => ReadonlySet<string> {
  const require = createRequire(import.meta.url);
  let known: ReadonlySet<string> | undefined;
  return () => (known ??= new Set(list()));

  function list(): readonly string[] {
    // `require` knows no types; the package's own are named here.
    const { dictionary } = require('@zxcvbn-ts/language-common') as typeof import('@zxcvbn-ts/language-common');
    return dictionary['passwords-common'];
  }
}
