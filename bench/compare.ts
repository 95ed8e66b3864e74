import { execFileSync } from 'node:child_process';
import { cpSync, mkdirSync, readdirSync, readFileSync, symlinkSync } from 'node:fs';
import { join } from 'node:path';
import { folderFor } from '../test/support/program.ts';
import { firstSeen, good, refresh, refusals } from './askings.ts';
import type { Bench } from './bench.ts';
import type { Slice } from './generator.ts';
import { openTree, type Portcullis, repository, seeItCount } from './portcullis.ts';
import { type Spread, spread } from './spread.ts';

/** What one version costs for each of the other's microseconds. */
export type Compared = {
  readonly name: string;
  /** Of the version named, and of the working tree. */
  readonly cpuUs: readonly [Spread, Spread];
  /** The second over the first, of neighbouring slices. */
  readonly ratio: Spread;
};

const WARM_UP_MS = 1_000;
const SLICE_MS = 100;

/**
 * Two versions of the server side by side: what a commit had, and the working tree as it is now. Short slices, one next to
 * the other and each time in the other order, because a machine's speed drifts more than most changes are worth.
 * @param only what is in the name of the rows that are wanted, in any case of letters.
 */
export async function compare(
  bench: Bench,
  ref: string,
  { rounds = 40, only = '' }: { rounds?: number | undefined; only?: string | undefined },
): Promise<Compared[]> {
  const wanted = Object.entries(rows).filter(([name]) => name.toLowerCase().includes(only.toLowerCase()));
  if (wanted.length === 0) throw new Error(`${only} is in none of: ${Object.keys(rows).join('; ')}`);
  bench.tell(`${ref} as it was beside the working tree`);
  const isShared = wanted.some(([name]) => name.startsWith(SHARED));
  const isEmbedded = wanted.some(([name]) => !name.startsWith(SHARED));
  const pair: Servers[] = [];
  for (const root of [checkOut(bench, ref), repository]) {
    const tree = await openTree(root, bench);
    const embedded = isEmbedded ? await tree.embedded() : undefined;
    const shared = isShared ? await tree.shared() : undefined;
    pair.push({ embedded, shared });
  }
  for (const servers of pair) {
    for (const [, take] of wanted) await take(bench, servers, WARM_UP_MS);
    for (const server of [servers.embedded, servers.shared?.instance]) if (server) await seeItCount(server, bench.generator);
  }

  const slices = wanted.map(([name]) => ({ name, pairs: [] as (readonly [number, number])[] }));
  for (let round = 0; round < rounds; round++) {
    bench.step(round + 1, rounds);
    for (const [at, [, take]] of wanted.entries()) {
      const took: number[] = [];
      for (const which of round % 2 ? [1, 0] : [0, 1]) {
        const { cpuUs, storesUs } = await take(bench, pair[which]!, SLICE_MS);
        took[which] = cpuUs + (wanted[at]![0].endsWith(ALL) ? Object.values(storesUs).reduce((all, us) => all + us, 0) : 0);
      }
      slices[at]!.pairs.push([took[0]!, took[1]!]);
    }
  }
  return slices.map(({ name, pairs }) => ({
    name,
    cpuUs: [spread(pairs.map(([a]) => a)), spread(pairs.map(([, b]) => b))],
    ratio: spread(pairs.map(([a, b]) => b / a)),
  }));
}

type Servers = {
  readonly embedded: Portcullis | undefined;
  readonly shared: { readonly instance: Portcullis; readonly other: Portcullis } | undefined;
};
type Take = (bench: Bench, servers: Servers, forMs: number) => Promise<Slice>;

const SHARED = 'PostgreSQL and Redis';
/** The stores' own time is in it. */
const ALL = 'all processes';

const embedded =
  (of: (server: Portcullis) => Parameters<Bench['generator']['slice']>[1]): Take =>
  ({ generator }, { embedded }, forMs) =>
    generator.slice(embedded!, of(embedded!), forMs);
const shared =
  (of: (server: Portcullis) => Parameters<Bench['generator']['slice']>[1]): Take =>
  ({ generator }, { shared }, forMs) =>
    generator.slice(shared!.instance, of(shared!.instance), forMs);

/** Started is only what the rows that are wanted need. */
const rows: Readonly<Record<string, Take>> = {
  'GET /protected': embedded(good),
  'first seen, issued here': async ({ generator }, { embedded }, forMs) =>
    generator.slice(embedded!, firstSeen((await refresh(embedded!, generator, forMs * 3)).given.access), forMs * 3),
  '401, no token': embedded(refusals['no token']),
  '401, bad signature': embedded(refusals['bad signature']),
  '401, revoked': embedded(refusals.revoked),
  '429, over the limit': embedded(refusals['over the limit']),
  'POST /refresh': ({ generator }, { embedded }, forMs) => refresh(embedded!, generator, forMs * 2),
  [`${SHARED}: GET /protected`]: shared(good),
  [`${SHARED}: GET /protected, ${ALL}`]: shared(good),
  [`${SHARED}: first seen, issued by another`]: async ({ generator }, { shared }, forMs) =>
    generator.slice(shared!.instance, firstSeen((await refresh(shared!.other, generator, forMs * 3)).given.access), forMs * 3),
  [`${SHARED}: 401, revoked`]: shared(refusals.revoked),
  [`${SHARED}: POST /refresh, ${ALL}`]: ({ generator }, { shared }, forMs) => refresh(shared!.instance, generator, forMs * 2),
};

/** The sources of a commit in a folder of their own, on the packages that are installed here, unless it names others. */
function checkOut(bench: Bench, ref: string): string {
  const folder = folderFor(bench);
  const git = (...args: string[]): Buffer => execFileSync('git', ['-C', repository, ...args], { maxBuffer: 2 ** 30 });
  execFileSync('tar', ['-x', '-C', folder], {
    input: git('archive', '--format=tar', git('rev-parse', `${ref}^{commit}`).toString().trim()),
  });
  const lock = (root: string): string => readFileSync(join(root, 'package-lock.json'), 'utf8');
  if (lock(folder) !== lock(repository)) {
    bench.tell('its package-lock.json is another: npm ci');
    execFileSync('npm', ['ci', '--loglevel=error'], { cwd: folder, stdio: ['ignore', 'ignore', 'inherit'] });
    return folder;
  }
  // What the workspaces are called must be found in that tree itself, so the folder is its own and only the rest is shared.
  const [here, there] = [join(repository, 'node_modules'), join(folder, 'node_modules')];
  mkdirSync(there);
  for (const entry of readdirSync(here, { withFileTypes: true })) {
    const [from, to] = [join(here, entry.name), join(there, entry.name)];
    if (entry.isSymbolicLink() || entry.name === '@portcullis') cpSync(from, to, { recursive: true, verbatimSymlinks: true });
    else symlinkSync(from, to);
  }
  return folder;
}
