import { accessTokens, type Algorithm, type Caller, signingAlgorithms, type Soon } from '@portcullis/guard';
import { newId } from '../../packages/server/src/lib/id.ts';
import type { Ending } from '../../test/support/program.ts';
import { openBenchHouse, servedSettings } from './house.ts';
import { gather, ownCpuUs, rounds, type Slope } from './measure.ts';

/** What gate 4 costs when so many callers ask one instance in turn: it remembers the tokens of the latest of them. */
export async function tokenSlopes(
  t: Ending,
  { sizes, times, count }: { readonly sizes: readonly number[]; readonly times: number; readonly count: number },
): Promise<Slope[]> {
  const all = gather();
  for (const alg of signingAlgorithms) {
    const readers = await readersOf(t, alg, sizes);
    await rounds(times, sizes, async (size, at, round) => {
      const { read, tokens } = readers.get(size)!;
      const began = ownCpuUs();
      for (let i = 0; i < count; i++) {
        const caller = read(tokens[(i + round * count) % size]!);
        if (caller instanceof Promise) await caller;
      }
      all.add(alg, at, (ownCpuUs() - began) / count);
    });
  }
  return [{ title: 'Reading an access token', over: 'callers in turn', sizes, unit: 'µs of CPU of the instance', rows: all.rows() }];
}

/** For each size a guard that has seen each of its tokens once. */
async function readersOf(t: Ending, alg: Algorithm, sizes: readonly number[]) {
  const { services, clock } = await openBenchHouse(t, { SIGNING_ALG: alg });
  const { ISSUER: issuer, AUDIENCE: audience } = servedSettings;
  const at = clock.now();
  const user = { id: newId('user'), username: 'alice', createdAt: at, disabledAt: undefined, isDemo: false };
  const tokens: string[] = [];
  while (tokens.length < sizes.at(-1)!) {
    const session = { id: newId('session'), authenticatedAt: at, expiresAt: at + 86_400_000 };
    tokens.push((await services.accessTokens.mint(user, session, at)).text);
  }
  const readers = new Map<number, { read(token: string): Soon<Caller>; tokens: readonly string[] }>();
  for (const size of sizes) {
    const { read } = accessTokens({ issuer, audience, keys: services.keyRing, clock });
    for (const token of tokens.slice(0, size)) await read(token);
    readers.set(size, { read, tokens });
  }
  return readers;
}
