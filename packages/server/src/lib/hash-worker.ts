import { parentPort } from 'node:worker_threads';
import { hashSync, verifySync } from '@node-rs/argon2';

/** What the pool asks of a thread. `phc` is `undefined` where there is nobody to verify against. */
export type HashRequest =
  | { readonly does: 'hash'; readonly password: string }
  | { readonly does: 'verify'; readonly password: string; readonly phc: string | undefined };

/** The PHC string, whether the password fits, or why argon2 could not say; and how many hashes were really computed for it. */
export type HashAnswer = { readonly hashes: number } & ({ readonly result: string | boolean } | { readonly fault: string });

/** argon2id, version 1.3, a salt of 16 bytes. Of the parameters that OWASP's password storage sheet holds equal, the ones that cost us the least CPU. */
const current = { algorithm: 2, memoryCost: 19_456, timeCost: 2, parallelism: 1, outputLen: 32 } as const;

/** The hash that stands in for nobody: a tag of zeros, for which no password is known, at the price of today's hashes. */
const nobodys = `$argon2id$v=19$m=${current.memoryCost},t=${current.timeCost},p=${current.parallelism}$${'A'.repeat(22)}$${'A'.repeat(43)}`;

parentPort?.on('message', (request: HashRequest) => parentPort?.postMessage(answer(request)));

function answer(request: HashRequest): HashAnswer {
  let hashes = 0;
  try {
    const result = request.does === 'hash' ? counted(() => hashSync(request.password, current)) : verify(request);
    return { result, hashes };
  } catch (error) {
    // argon2's own words, which hold neither the password nor the hash.
    return { fault: error instanceof Error ? error.message : 'unknown', hashes };
  }

  function verify({ password, phc }: Extract<HashRequest, { does: 'verify' }>): boolean {
    const fits = counted(() => verifySync(phc ?? nobodys, password));
    return fits && phc !== undefined;
  }

  function counted<T>(compute: () => T): T {
    const result = compute();
    hashes += 1;
    return result;
  }
}
