import { execFileSync } from 'node:child_process';
import { cpSync, mkdirSync, readdirSync, readFileSync, symlinkSync } from 'node:fs';
import { join } from 'node:path';
import { type Ending, folderFor } from '../test/support/program.ts';
import { firstSeen, good, refresh, refusals } from './askings.ts';
import { type Bench, withEnding } from './bench.ts';
import type { Slice } from './generator.ts';
import { openTree, type Portcullis, repository, seeItCount } from './portcullis.ts';
import { median, type Spread, spread } from './spread.ts';

/** What one version costs for each of the other's microseconds. */
export type Compared = {
  readonly name: string;
  /** Of the version named, and of the working tree. */
  readonly cpuUs: readonly [Spread, Spread];
  /** The second over the first, of neighbouring slices; of each round, the median. */
  readonly ratio: Spread;
  /** What every round says; nothing where they are not of one mind, or too few to mean anything. */
  readonly verdict?: 'cheaper' | 'dearer';
};

/** Of a server's first row, until its code is compiled, and of each row after it. */
const [FIRST_WARM_UP_MS, WARM_UP_MS] = [3_000, 500];
const SLICE_MS = 100;
const PAIRS = 10;
/** So many would agree by chance in one of sixteen comparisons; six, in one of 32. */
const ENOUGH_ROUNDS = 5;

/**
 * Two versions of the server side by side: what a commit had, and the working tree as it is now. Short slices, one next to
 * the other and each time in the other order, because a machine's speed drifts more than most changes are worth; and new
 * processes each round, because two of the very same program differ for as long as they live (by 5 to 10 %, as was seen).
 * @param only what is in the name of the rows that are wanted, in any case of letters.
 */
export async function compare(
  bench: Bench,
  ref: string,
  { rounds = 6, only = '' }: { rounds?: number | undefined; only?: string | undefined },
): Promise<Compared[]> {
  const wanted = Object.entries(rows).filter(([name]) => name.toLowerCase().includes(only.toLowerCase()));
  if (wanted.length === 0) throw new Error(`${only} is in none of: ${Object.keys(rows).join('; ')}`);
  const roots = [checkOut(bench, ref), repository];
  bench.tell(`${ref} as it was beside the working tree`);

  const all: Round[] = [];
  while (all.length < rounds) {
    bench.step(all.length + 1, rounds);
    await withEnding(async (until) => all.push(await takeRound(bench, roots, wanted, until)));
  }
  return wanted.map(([name]) => comparedIn(name, all));
}

/** Of each row pairs of neighbours, in microseconds. */
type Round = ReadonlyMap<string, readonly (readonly [then: number, now: number])[]>;

async function takeRound(
  bench: Bench,
  roots: readonly string[],
  wanted: readonly (readonly [string, Take])[],
  until: Ending,
): Promise<Round> {
  const isShared = wanted.some(([name]) => name.startsWith(SHARED));
  const isEmbedded = wanted.some(([name]) => !name.startsWith(SHARED));
  const servers = await Promise.all(
    roots.map(async (root): Promise<Servers> => {
      const tree = await openTree(root, until);
      return { embedded: isEmbedded ? await tree.embedded() : undefined, shared: isShared ? await tree.shared() : undefined };
    }),
  );
  const firsts = [true, false].map((isOfShared) => wanted.find(([name]) => name.startsWith(SHARED) === isOfShared));
  for (const row of wanted) {
    for (const one of servers) await row[1](bench, one, firsts.includes(row) ? FIRST_WARM_UP_MS : WARM_UP_MS);
  }
  for (const { embedded, shared } of servers) {
    for (const server of [embedded, shared?.instance]) if (server) await seeItCount(server, bench.generator);
  }

  const pairs = new Map(wanted.map(([name]) => [name, [] as [number, number][]]));
  for (let nth = 0; nth < PAIRS; nth++) {
    for (const [name, take] of wanted) {
      const pair: [number, number] = [0, 0];
      for (const which of nth % 2 ? ([1, 0] as const) : ([0, 1] as const)) {
        const { cpuUs, storesUs } = await take(bench, servers[which]!, SLICE_MS);
        pair[which] = cpuUs + (name.endsWith(ALL) ? Object.values(storesUs).reduce((sum, us) => sum + us, 0) : 0);
      }
      pairs.get(name)?.push(pair);
    }
  }
  return pairs;
}

function comparedIn(name: string, rounds: readonly Round[]): Compared {
  const pairs = rounds.map((round) => round.get(name) ?? []);
  const ratio = spread(pairs.map((of) => median(of.map(([then, now]) => now / then))));
  const verdict = rounds.length < ENOUGH_ROUNDS ? undefined : ratio.max < 1 ? 'cheaper' : ratio.min > 1 ? 'dearer' : undefined;
  return {
    name,
    cpuUs: [spread(pairs.flat().map(([then]) => then)), spread(pairs.flat().map(([, now]) => now))],
    ratio,
    ...(verdict && { verdict }),
  };
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
    generator.slice(
      shared!.instance,
      firstSeen((await refresh(shared!.other, generator, forMs * 3, shared!.other.refresh.length)).given.access),
      forMs * 3,
    ),
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
