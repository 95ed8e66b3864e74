import type { Clock, RedisAnswer, RedisLedger } from '@portcullis/guard';
import { Problem } from '../../domain/problem.ts';
import type { RedisMark, RedisMarks } from '../../domain/session/redis-mark.ts';
import type { AskedSessions } from '../../domain/session/asked-sessions.ts';
import type { RevokedSessions } from '../../domain/session/revoked-sessions.ts';
import type { Ended, Sessions } from '../../domain/session/session.ts';
import { randomBytes } from '../../lib/secret.ts';
import { unlessUnavailable } from './unavailable.ts';

/** The revocations that all instances share: asked of Redis while it can be believed, else of the store. */
export interface SharedRevocations extends RevokedSessions {
  /** Whether the session is revoked, by what Redis said of it or, where that is not to be believed, by the store. */
  judge(sessionId: string, said: Pick<RedisAnswer, 'revoked' | 'generation'> | undefined): Promise<boolean>;
  /** Whether Redis can be believed now. */
  isBelieved(): boolean;
}

export type SharedRevocationsOptions = {
  readonly ledger: RedisLedger;
  /** Which Redis the ledger speaks to: another number for each start of each server; `undefined` while it is away or may lose what it was told. */
  readonly run: () => number | undefined;
  readonly marks: RedisMarks;
  readonly sessions: Pick<Sessions, 'listRevoked'>;
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

/**
 * Redis is believed while it says the generation that the store has on record for it. It is set last, when Redis has been
 * told every revocation, so a Redis that has lost them has lost it too; and another Redis than the one on record, a
 * restarted or promoted one, is told everything anew, because it may have lost the last of them alone.
 *
 * Who ends a session tells Redis before it answers. What somebody ended who could not (he died, or Redis was out of his
 * reach) is found in the store within a second by every instance that can.
 */
export function sharedRevocations({ ledger, run, marks, sessions, asked, clock, onChange }: SharedRevocationsOptions): SharedRevocations {
  /** What Redis must say to be believed, and which Redis: no other one. */
  let trusted: { readonly text: string; readonly run: number } | undefined;
  /** The generation that Redis did not say when it should have. */
  let forgotten: number | undefined;
  let isBehind = false;
  let told: boolean | undefined;
  /** Everything that ended before has been told to this Redis. */
  let knownTo: { readonly run: number; readonly since: number } | undefined;
  let recently = new Map<string, number>();
  let looking: Promise<void> | undefined;
  let isOld = false;

  const isBelieved = (): boolean => trusted !== undefined && trusted.run === run();

  async function tell(ended: readonly Ended[]): Promise<void> {
    await tellEnded(ledger, ended, clock.now());
    for (const { id } of ended) recently.set(id, clock.now());
  }

  async function catchUp(): Promise<void> {
    const current = run();
    const { keysVersion, ...mark } = await marks.find();
    await asked.follow(keysVersion);
    if (current === undefined) return believe(undefined);
    const at = clock.now();
    const isKnown = mark.run === current && mark.generation !== 0 && mark.generation !== forgotten;
    if (!isKnown) believe(undefined);
    if (!isKnown || knownTo?.run !== current) {
      knownTo = undefined;
      recently.clear();
    }
    const ended = await sessions.listRevoked(at, knownTo && knownTo.since - COMMIT_WITHIN_MS);
    await tell(ended.filter(({ id }) => !recently.has(id)));
    knownTo = { run: current, since: at };
    recently = new Map([...recently].filter(([, toldAt]) => toldAt > at - 2 * COMMIT_WITHIN_MS));
    if (!isKnown) return renew(mark, knownTo);

    const text = `${mark.generation}.${keysVersion}`;
    if (isBehind || trusted?.text !== text) await ledger.raiseGeneration(text);
    isBehind = false;
    believe({ text, run: current });
  }

  /**
   * Everything has been told but what ended meanwhile: that, and then the generation, under a lock of the store, so that of
   * all instances one sets it. Another look believes what came of it, whoever it was.
   */
  async function renew(before: RedisMark, { run, since }: { run: number; since: number }): Promise<void> {
    const generation = randomBytes(6).readUIntBE(0, 6);
    await marks.renew(before, { generation, run }, async (keysVersion, stored) => {
      await tell(await stored.listRevoked(clock.now(), since - COMMIT_WITHIN_MS));
      await ledger.setGeneration(`${generation}.${keysVersion}`);
    });
    isOld = true;
  }

  function believe(next: typeof trusted): void {
    trusted = next;
    if (told === (next !== undefined)) return;
    told = next !== undefined;
    onChange?.(told);
  }

  /** One at a time; who asks while one is on its way gets one that began after he asked. */
  function look(): Promise<void> {
    if (looking) {
      isOld = true;
      return looking;
    }
    looking = (async () => {
      do {
        isOld = false;
        await catchUp();
      } while (isOld);
    })().finally(() => {
      looking = undefined;
    });
    return looking;
  }

  const lookSoon = (): void => void look().catch(() => {}); // the next second's says what is in the way

  async function judge(sessionId: string, said: Pick<RedisAnswer, 'revoked' | 'generation'> | undefined): Promise<boolean> {
    if (said?.revoked) return true;
    if (said && said.generation === trusted?.text && isBelieved()) return false;
    if (said && trusted && isBelieved()) {
      isBehind = true;
      const [should, does] = [generationOf(trusted.text), generationOf(said.generation)];
      if (does !== should) {
        forgotten = should;
        believe(undefined);
      }
      lookSoon();
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
const generationOf = (text: string | undefined): number => Number(text?.split('.')[0] ?? 0);
