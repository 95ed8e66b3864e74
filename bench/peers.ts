import { isPostgresHere } from '../test/support/postgres.ts';
import { isRedisHere } from '../test/support/redis.ts';
import { good } from './askings.ts';
import type { Bench } from './bench.ts';
import type { Contestant } from './contestant.ts';
import type { Target } from './generator.ts';
import { openContestants } from './peers/contestants.ts';
import { openTree, repository, seeItCount } from './portcullis.ts';
import { type Cost, costOf, REFERENCE, type Row, startReference, takeRounds } from './reference.ts';

export type PeerCost = Cost & { readonly isOurs: boolean; readonly versions?: string; readonly note?: string };

/** What others cost for the same work, in one run with ours and the bare platform. Each is seen to work, before and after. */
export async function measurePeers(bench: Bench, rounds = 10): Promise<PeerCost[]> {
  const tree = await openTree(repository, bench);
  const embedded = await tree.embedded();
  const shared = isPostgresHere && isRedisHere ? (await tree.shared()).instance : undefined;
  const reference = await startReference(bench, embedded);
  const contestants = await openContestants(bench);

  const ours = [
    { name: 'Portcullis, embedded', server: embedded },
    ...(shared ? [{ name: 'Portcullis on Redis and PostgreSQL', server: shared }] : []),
  ];
  const rows: Row[] = [
    ...ours.map(({ name, server }) => ({ name, take: (forMs: number) => bench.generator.slice(server, good(server), forMs) })),
    ...contestants.map((one) => ({
      name: one.name,
      take: (forMs: number) => bench.generator.slice(targetOf(one), { over: 'HTTP/1.1', ...one.protected, status: 200 }, forMs),
    })),
  ];
  const seeThemWork = async (): Promise<void> => {
    for (const { server } of ours) await seeItCount(server, bench.generator);
    for (const one of contestants) await one.seeItWork();
  };
  await seeThemWork();
  const all = await takeRounds(bench, reference, rows, rounds);
  await seeThemWork();
  return [
    { ...costOf(REFERENCE, all), isOurs: false },
    ...ours.map(({ name }) => ({ ...costOf(name, all), isOurs: true })),
    ...contestants.map(({ name, versions, note }) => ({
      ...costOf(name, all),
      isOurs: false,
      versions,
      ...(note !== undefined && { note }),
    })),
  ];
}

const targetOf = ({ port, ca, host, pids, storePids }: Contestant): Target => ({
  port,
  ca,
  host,
  pids,
  ...(storePids && { stores: { Redis: storePids } }),
});

/** They have a workspace of their own, which is installed only for this. */
