import type { Clock, RedisAnswer, RedisLedger, Soon } from '@portcullis/guard';
import type { Keys } from '../../domain/key/key.ts';
import { Problem } from '../../domain/problem.ts';
import type { AskedSessions } from '../../domain/session/asked-sessions.ts';
import type { RevokedSessions } from '../../domain/session/revoked-sessions.ts';
import type { Ended, Sessions } from '../../domain/session/session.ts';
import { newId } from '../../lib/id.ts';
import { unlessUnavailable } from './unavailable.ts';

/** The revocations that all instances share: asked of Redis while it can be believed, else of the store. */
export interface SharedRevocations extends RevokedSessions {
  /** Whether the session is revoked, by what Redis said of it or, where that is not to be believed, by the store. */
  judge(sessionId: string, said: Said | undefined, belief: Belief | undefined): Soon<boolean>;
  /** What Redis must say now to be believed; to be taken before it is asked, and to be judged by. */
  belief(): Belief | undefined;
  /** Whether Redis can be believed now. */
  isBelieved(): boolean;
}

type Said = Pick<RedisAnswer, 'revoked' | 'generation' | 'bucket'>;

export type SharedRevocationsOptions = {
  readonly ledger: RedisLedger;
  /** Which Redis the ledger speaks to: another number whenever it, or a part of it, is another one; `undefined` while it is away or may lose what it was told. */
  readonly run: () => number | undefined;
  /** Asks it once more who it is, so that `run` is of now. @throws {Problem} `unavailable` */
  readonly whoIsIt: () => Promise<void>;
  readonly sessions: Pick<Sessions, 'listRevoked'>;
  readonly keys: Pick<Keys, 'version'>;
  /** The truth, and what follows the keys. */
  readonly asked: AskedSessions;
  readonly clock: Clock;
  /** How long an access token lives at most. */
  readonly accessTokenTtlMs: number;
  /** Told when Redis begins or ceases to be believed. */
  readonly onChange?: (isBelieved: boolean) => void;
};

/** What ended is committed so much later at most, as a rule: each look goes back so far. */
const COMMIT_WITHIN_MS = 30_000;
/** One look in so many goes back further, for clocks that are apart and a database that takes its time. */
const DEEP_EVERY = 60;
const DEEP_MS = 600_000;
/** A revocation outlives the last token of its session by so much, whatever the clocks of the instances say. */
const MARGIN_MS = 60_000;
/** So many are told at once. */
const BATCH = 500;

/** A Redis that has been told everything. */
export type Belief = {
  readonly run: number;
  /** What it says, bucket by bucket, for as long as it has forgotten nothing, and keys have not changed. */
  readonly generations: readonly string[];
  /** What ended before is there, but for what was committed late. */
  readonly since: number;
};

/**
 * An instance believes the Redis that it has itself told every revocation of the store, while that one still says the
 * generation that it said before it was told: a Redis that has lost a revocation has lost that too. Another one, restarted or
 * promoted, may have lost the last ones alone, so it is told everything anew.
 *
 * Who ends a session tells Redis before he answers. What somebody ended who could not (he died, or Redis was out of his
 * reach) is found in the store within a second by every instance that can.
 */
export function sharedRevocations(on: SharedRevocationsOptions): SharedRevocations {
  const { ledger, run, whoIsIt, sessions, keys, asked, clock, accessTokenTtlMs, onChange } = on;
  let known: Belief | undefined;
  let looks = 0;
  let wasBelieved = false;
  let recently = new Map<string, number>();
  let looking: Promise<void> | undefined;
  let isOld = false;

  const isBelieved = (): boolean => known !== undefined && known.run === run();

  async function tell(ended: readonly Ended[]): Promise<void> {
    const toldNow = recently; // of this Redis; once it has forgotten, there is another list
    await tellEnded(ledger, ended, { now: clock.now(), accessTokenTtlMs });
    for (const { id } of ended) toldNow.set(id, clock.now());
  }

  async function catchUp(): Promise<void> {
    await whoIsIt().catch(unlessUnavailable);
    const current = run();
    const before = known?.run === current ? known : undefined;
    if (!before) believe(undefined);
    const keysVersion = await keys.version();
    await asked.follow(keysVersion);
    if (current === undefined) return;

    const generations = await ledger.claim(newId('instance'), keysVersion);
    const since = clock.now();
    const isNews = !before || !generations.every((text, bucket) => nameOf(text) === nameOf(before.generations[bucket]));
    if (isNews) recently = new Map();
    const backMs = looks++ % DEEP_EVERY === 0 ? DEEP_MS : COMMIT_WITHIN_MS;
    const ended = await sessions.listRevoked(since, isNews ? undefined : before.since - backMs);
    await tell(ended.filter(({ id }) => !recently.has(id)));
    for (const [id, toldAt] of recently) if (toldAt <= since - 2 * DEEP_MS) recently.delete(id);

    if (generations.every((text) => versionOf(text) === keysVersion)) return believe({ run: current, generations, since });
    // Keys have changed meanwhile. Whoever raises a version has committed it before; so if the database does not have it, it is an older
    // copy, or somebody else has written here: then Redis is to go by the database, never the other way.
    const committed = await keys.version();
    if (!generations.every((text) => versionOf(text) <= committed)) await ledger.claim(newId('instance'), committed, 'anew');
    isOld = true;
  }

  function believe(next: Belief | undefined): void {
    known = next;
    const isNow = next !== undefined;
    if (isNow === wasBelieved) return;
    wasBelieved = isNow;
    onChange?.(isNow);
  }

  /** One at a time; who asks while one is on its way gets one that began after he asked. */
  function look(): Promise<void> {
    isOld = true;
    looking ??= (async () => {
      while (isOld) {
        isOld = false;
        await catchUp();
      }
    })().finally(() => {
      looking = undefined;
    });
    return looking;
  }

  function judge(sessionId: string, said: Said | undefined, belief: Belief | undefined): Soon<boolean> {
    if (said?.revoked) return true;
    if (said && belief && belief.run === run()) {
      const expected = belief.generations[said.bucket];
      if (said.generation === expected) return false;
      if (known === belief && nameOf(said.generation) !== nameOf(expected)) believe(undefined);
      look().catch(() => {}); // the next second's says what is in the way
    }
    return asked.isRevoked(sessionId);
  }

  const belief = (): Belief | undefined => (isBelieved() ? known : undefined);

  return {
    ...asked,
    belief,
    judge,
    isBelieved,
    async isRevoked(sessionId) {
      const believed = belief();
      const said = believed && (await ledger.takeFor(sessionId, [], []).catch(unlessUnavailable));
      return judge(sessionId, said, believed);
    },

    async add(ended) {
      if (ended.length === 0) return;
      await orPending(tell(ended));
    },
    keysChanged: () => orPending(look()),
    look,
    load: look,
  };
}

/** Tells Redis of sessions that have ended; for as long as any of their tokens may live, whatever the clocks of the instances say. */
export async function tellEnded(
  ledger: Pick<RedisLedger, 'revoke'>,
  ended: readonly Ended[],
  { now, accessTokenTtlMs }: { now: number; accessTokenTtlMs: number },
): Promise<void> {
  const forMs = ({ accessUntil }: Ended): number => Math.max(accessUntil - now, accessTokenTtlMs) + MARGIN_MS;
  for (let i = 0; i < ended.length; i += BATCH)
    await Promise.all(ended.slice(i, i + BATCH).map((one) => ledger.revoke(one.id, forMs(one))));
}

/** @throws {Problem} `revocation_pending` where Redis has not confirmed the work. */
export async function orPending(work: Promise<void>, detail?: string): Promise<void> {
  try {
    await work;
  } catch (error) {
    unlessUnavailable(error);
    throw new Problem('revocation_pending', Object(error).reason, { retryAfterS: 1, ...(detail !== undefined && { detail }) });
  }
}

/** Without the version of the keys, which changes for other reasons. */
const nameOf = (generation: string | undefined): string => generation?.slice(0, generation.lastIndexOf('.')) ?? '';

const versionOf = (generation: string): number => Number(generation.slice(generation.lastIndexOf('.') + 1));
