import type { Clock, RedisAnswer, RedisLedger } from '@portcullis/guard';
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
  judge(sessionId: string, said: Said | undefined): Promise<boolean>;
  /** Whether Redis can be believed now. */
  isBelieved(): boolean;
}

type Said = Pick<RedisAnswer, 'revoked' | 'generation' | 'bucket'>;

export type SharedRevocationsOptions = {
  readonly ledger: RedisLedger;
  /** Which Redis the ledger speaks to: another number whenever it, or a part of it, is another one; `undefined` while it is away or may lose what it was told. */
  readonly run: () => number | undefined;
  readonly sessions: Pick<Sessions, 'listRevoked'>;
  readonly keys: Pick<Keys, 'version'>;
  /** The truth, and what follows the keys. */
  readonly asked: AskedSessions;
  readonly clock: Clock;
  /** Told when Redis begins or ceases to be believed. */
  readonly onChange?: (isBelieved: boolean) => void;
};

/** What ended is committed at most so much later: no transaction is waited for longer. */
const COMMIT_WITHIN_MS = 30_000;
/** A revocation outlives the last token of its session by so much, whatever the clocks of the instances say. */
const MARGIN_MS = 60_000;
/** So many are told at once. */
const BATCH = 500;

/** A Redis that has been told everything. */
type Known = {
  readonly run: number;
  /** What it says, bucket by bucket, for as long as it has forgotten nothing, and keys have not changed. */
  readonly generations: readonly string[];
  readonly keysVersion: number;
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
export function sharedRevocations({ ledger, run, sessions, keys, asked, clock, onChange }: SharedRevocationsOptions): SharedRevocations {
  let known: Known | undefined;
  /** It may say other generations by now: of keys that have changed. */
  let isBehind = false;
  let wasBelieved = false;
  let recently = new Map<string, number>();
  let looking: Promise<void> | undefined;
  let isOld = false;

  const isBelieved = (): boolean => known !== undefined && known.run === run();

  async function tell(ended: readonly Ended[]): Promise<void> {
    await tellEnded(ledger, ended, clock.now());
    for (const { id } of ended) recently.set(id, clock.now());
  }

  async function catchUp(): Promise<void> {
    const current = run();
    const before = known?.run === current ? known : undefined;
    if (!before) believe(undefined);
    const keysVersion = await keys.version();
    await asked.follow(keysVersion);
    if (current === undefined) return;

    const isCurrent = before?.keysVersion === keysVersion && !isBehind;
    isBehind = false;
    const generations = before && isCurrent ? before.generations : await ledger.claim(newId('instance'), keysVersion);
    const since = clock.now();
    const isNews = !before || !generations.every((text, bucket) => nameOf(text) === nameOf(before.generations[bucket]));
    if (isNews) recently.clear();
    const ended = await sessions.listRevoked(since, isNews ? undefined : before.since - COMMIT_WITHIN_MS);
    await tell(ended.filter(({ id }) => !recently.has(id)));
    recently = new Map([...recently].filter(([, toldAt]) => toldAt > since - 2 * COMMIT_WITHIN_MS));
    if (generations.every((text) => text.endsWith(`.${keysVersion}`))) believe({ run: current, generations, keysVersion, since });
    else isOld = true; // keys have changed meanwhile
  }

  function believe(next: Known | undefined): void {
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

  async function judge(sessionId: string, said: Said | undefined): Promise<boolean> {
    if (said?.revoked) return true;
    if (said && known && isBelieved()) {
      const expected = known.generations[said.bucket];
      if (said.generation === expected) return false;
      if (nameOf(said.generation) !== nameOf(expected)) believe(undefined);
      isBehind = true;
      look().catch(() => {}); // the next second's says what is in the way
    }
    return asked.isRevoked(sessionId);
  }

  return {
    ...asked,
    judge,
    isBelieved,
    async isRevoked(sessionId) {
      const said = isBelieved() ? await ledger.takeFor(sessionId, [], []).catch(unlessUnavailable) : undefined;
      return judge(sessionId, said);
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

/** Tells Redis of sessions that have ended. */
export async function tellEnded(ledger: Pick<RedisLedger, 'revoke'>, ended: readonly Ended[], now: number): Promise<void> {
  for (let i = 0; i < ended.length; i += BATCH)
    await Promise.all(ended.slice(i, i + BATCH).map(({ id, accessUntil }) => ledger.revoke(id, accessUntil - now + MARGIN_MS)));
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
