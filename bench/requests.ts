import { openMint } from '../test/support/mint.ts';
import { isPostgresHere } from '../test/support/postgres.ts';
import { isRedisHere } from '../test/support/redis.ts';
import { firstSeen, good, refresh, refusals } from './askings.ts';
import type { Bench } from './bench.ts';
import type { Asking, Target } from './generator.ts';
import { openTree, type Portcullis, repository, seeItCount } from './portcullis.ts';
import { type Cost, costOf, REFERENCE, type Reference, type Round, type Row, startReference, takeRounds } from './reference.ts';
import { median } from './spread.ts';

/** A cost, and what it may be at most. */
export type Held = Cost & {
  /** × the reference; where it follows from other rows, the median of what followed in each round. */
  readonly bar?: number;
  /** In words, where it is no number of its own. */
  readonly barSays?: string;
  readonly holds?: boolean;
};

/** So many tokens are made for each slice of those that were never seen. */
const TOKENS = 1_000;

/**
 * What a request costs with every gate at work, in microseconds of CPU time and as a multiple of the bare platform: on one
 * store and the other, with tokens that were seen and that were not, refused for every reason, and over HTTP/2.
 */
export async function measureRequests(bench: Bench, rounds = 10): Promise<Held[]> {
  const tree = await openTree(repository, bench);
  const embedded = await tree.embedded();
  const overHttp2 = await tree.embedded(); // one that serves both pays for the mixture
  const shared = isPostgresHere && isRedisHere ? await tree.shared() : undefined;
  if (!shared) bench.tell('without PostgreSQL and Redis, which are not installed');
  const reference = await startReference(bench, embedded);
  const rows = rowsOf(bench, reference, { embedded, overHttp2, shared }, await openMint(embedded.program));
  const servers = [embedded, shared?.instance].filter((server) => server !== undefined);
  for (const server of servers) await seeItCount(server, bench.generator);
  const all = await takeRounds(bench, reference, rows, rounds);
  for (const server of servers) await seeItCount(server, bench.generator);
  return [costOf(REFERENCE, all), ...rows.map((row) => heldOf(row, all))];
}

/** At most so many times the reference, in a round. */
type Bar = { readonly says?: string; readonly of: (round: Round) => number };
type BarredRow = Row & { readonly bar?: Bar };

const GOOD = 'embedded, token seen before';
const VERIFIED = 'bare, and one Ed25519 verification';

const times = (most: number): Bar => ({ of: () => most });
const notDearer: Bar = { says: 'a good request', of: (round) => ratioOf(round, GOOD) };
const oneVerification: Bar = { says: '1.6 + one verification', of: (round) => 1.6 + ratioOf(round, VERIFIED) - 1 };
const ratioOf = (round: Round, name: string): number => round.get(name)?.ratio ?? NaN;

type Servers = {
  readonly embedded: Portcullis;
  readonly overHttp2: Portcullis;
  readonly shared: { readonly instance: Portcullis; readonly other: Portcullis } | undefined;
};

function rowsOf(
  { generator }: Bench,
  reference: Reference,
  { embedded, overHttp2, shared }: Servers,
  mint: Awaited<ReturnType<typeof openMint>>,
): BarredRow[] {
  const asked = (server: Portcullis, asking: Asking) => (forMs: number) => generator.slice(server, asking, forMs);
  /** Never handed out by the server itself, as if another with the same key had issued them. */
  const mintMany = async (): Promise<string[]> =>
    Promise.all(Array.from({ length: TOKENS }, () => mint(embedded.access, { jti: crypto.randomUUID() })));
  const issue = async (server: Portcullis, atMost: number): Promise<readonly string[]> =>
    (await refresh(server, generator, 10_000, atMost)).given.access;
  /** What asks a server, with tokens that are made anew for each take. */
  const withNew = (
    make: () => Promise<readonly string[]>,
    server: Target,
    asking: (tokens: readonly string[]) => Asking,
  ): Pick<Row, 'prepare' | 'take'> => {
    let tokens: readonly string[] = [];
    return {
      prepare: async () => {
        tokens = await make();
      },
      take: (forMs) => generator.slice(server, asking(tokens), forMs),
    };
  };

  return [
    { name: VERIFIED, ...withNew(mintMany, reference.http1, (tokens) => ({ ...firstSeen(tokens), path: '/verified' })) },
    { name: GOOD, bar: times(1.6), take: asked(embedded, good(embedded)) },
    ...(shared
      ? [{ name: 'Redis and PostgreSQL, token seen before', bar: times(2), take: asked(shared.instance, good(shared.instance)) }]
      : []),
    {
      name: 'embedded, first seen here',
      bar: times(3),
      ...withNew(async () => issue(embedded, TOKENS), embedded, firstSeen),
    },
    ...(shared
      ? [
          {
            name: 'Redis and PostgreSQL, first seen here',
            bar: times(3),
            ...withNew(async () => issue(shared.other, shared.other.refresh.length), shared.instance, firstSeen),
          },
        ]
      : []),
    {
      name: 'issued elsewhere, first seen here',
      bar: oneVerification,
      ...withNew(mintMany, embedded, firstSeen),
    },
    ...Object.entries(refusals).map(([why, asking]) => ({
      name: `refused, ${why}`,
      bar: why === 'bad signature' ? oneVerification : notDearer,
      take: asked(embedded, asking(embedded)),
    })),
    { name: 'bare node:http2', take: (forMs) => generator.slice(reference.http2, { ...reference.asking, over: 'HTTP/2' }, forMs) },
    { name: 'embedded, over HTTP/2', take: asked(overHttp2, { ...good(overHttp2), over: 'HTTP/2' }) },
  ];
}

function heldOf({ name, bar }: BarredRow, rounds: readonly Round[]): Held {
  const cost = costOf(name, rounds);
  if (!bar) return cost;
  const holds = median(rounds.map((round) => ratioOf(round, name) / bar.of(round))) <= 1;
  return { ...cost, bar: median(rounds.map(bar.of)), ...(bar.says !== undefined && { barSays: bar.says }), holds };
}
