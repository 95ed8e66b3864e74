import { hash, timingSafeEqual } from 'node:crypto';
import type { Charge, Counters, Verdict } from './counters.ts';
import { inOneTrip } from './in-one-trip.ts';
import type { Rule } from './limit.ts';
import { Problem } from './problem.ts';
import { recentMap, type RecentMap } from './recent-map.ts';
import { lending, type Part, type Said } from './redis-loans.ts';
import { CLAIM, COUNT, GIVE_BACK, MARK, REVOKE } from './redis-scripts.ts';

/** What is asked of Redis, whoever speaks to it: an atomic script, by its text. Rejects within the caller's own deadline. */
export type RunScript = (script: string, keys: readonly string[], args: readonly string[]) => Promise<unknown>;

/** What Redis says of a caller's request in one trip. */
export type Answer = Said & {
  /** Where the session is kept; in a cluster each forgets for itself. */
  readonly bucket: number;
};

/** Counters and revocations that all instances share. What Redis cannot be asked, or answers with nonsense, is `unavailable`. */
export interface RedisLedger extends Counters {
  /**
   * Whether the session is revoked, and the request counted: on all charges if it is not, on `always` alone if it is. All or
   * nothing: what one charge refuses counts on none.
   */
  takeFor(sessionId: string, always: readonly Charge[], ifLiving: readonly Charge[]): Promise<Answer>;
  /** The same, where the session's last token has this mark; `undefined` where it has another or none: then nothing is counted, unless who writes to Redis has put the beginning of this one there. */
  takeForKnown(mark: string, sessionId: string, always: readonly Charge[], ifLiving: readonly Charge[]): Promise<Answer | undefined>;
  /** Notes the mark of a session's last token, for so long: longer than {@link ASKED} characters, and nobody else can work it out. */
  mark(sessionId: string, mark: string, forMs: number): Promise<void>;
  /** Notes that the session is revoked, for so long. */
  revoke(sessionId: string, forMs: number): Promise<void>;
  /**
   * Gives each bucket that has none a generation of this name, and each a version no lower than this one.
   * @param how `anew`: every bucket gets this very one, whatever it has.
   * @returns what now stands, bucket by bucket: what {@link Answer.generation} will say until that one forgets, or its version is raised.
   */
  claim(name: string, version: number, how?: 'anew'): Promise<readonly string[]>;
}

export type RedisLedgerOptions = {
  readonly run: RunScript;
  /** As `run`, for what must not be lost: revocations. `run` itself where it is left out. */
  readonly keep?: RunScript;
  /** Of every key, so that two services can share one Redis. */
  readonly prefix: string;
  /** Keys live in many places: a script touches those of one address, one user, one name or one session, and no others. */
  readonly isCluster?: boolean;
  /** Epoch milliseconds in place of Redis's time: for tests. */
  readonly now?: () => number;
  /** Told of an answer that no script of ours gives. */
  readonly onOdd?: (why: string) => void;
};

/**
 * Counters with the meaning of `sliding-list.ts`, as a script that Redis runs whole. The time is Redis's own, so the
 * instances' clocks do not matter. A counter goes by itself when its last entry has left, a revocation when nothing is left
 * to be refused.
 */
export function redisLedger(on: RedisLedgerOptions): RedisLedger {
  const revokedKey = (sessionId: string): string => `${on.prefix}:revoked:{r${bucketOf(sessionId)}}:${sessionId}`;
  const markKey = (sessionId: string): string => `${on.prefix}:token:{r${bucketOf(sessionId)}}:${hashed(sessionId)}`; // of a living one, nobody needs the id
  const generationKeys = buckets.map((bucket) => `${on.prefix}:generation:{r${bucket}}`);

  const known = new WeakMap<Rule, Facts>();
  /** A rule is asked about with every request, and never changes. */
  function factsOf(rule: Rule): Facts {
    let facts = known.get(rule);
    if (!facts) {
      const { max, windowMs } = rule.limit;
      facts = { hash: hashed(rule.id), max: String(max), windowMs: String(windowMs), keys: recentMap(10_000) };
      known.set(rule, facts);
    }
    return facts;
  }

  /** Bounded, and without anybody's name in it; those of one address, user or name are together in a cluster, by the tag in braces. */
  function keyOf({ rule, who }: Charge): string {
    const { hash, keys } = factsOf(rule);
    const known = keys.get(who);
    if (known !== undefined) return known;
    const key = `${on.prefix}:limit:{${hashed(who)}}:${hash}`;
    if (who.length <= 64) keys.set(who, key); // he who asks once asks again; what is longer, somebody may have made up
    return key;
  }

  /** In a cluster the keys of two questions are in two places, so each goes for itself. */
  const toRedis = inOneTrip<Question, unknown>({ most: on.isCluster ? 1 : MOST_IN_A_TRIP, patienceMs: PATIENCE_MS }, async (questions) => {
    const keys: string[] = [];
    const args = [on.now ? String(on.now()) : ''];
    for (let first = 0, next = 0; first < questions.length; first = next) {
      const { mode, charges, session } = questions[first]!;
      while (next < questions.length && isLike(questions[first]!, questions[next]!)) next++;
      args.push(String(next - first), mode, session ? String(session.paysOnceRevoked) : '', session?.mark ? 'marked' : '');
      args.push(String(charges.length));
      for (const { rule } of charges) args.push(factsOf(rule).max, factsOf(rule).windowMs);
      for (let i = first; i < next; i++) {
        const { charges, session } = questions[i]!;
        if (session) keys.push(generationKeys[bucketOf(session.id)]!, revokedKey(session.id));
        if (session?.mark) {
          keys.push(markKey(session.id));
          args.push(session.mark.slice(0, ASKED));
        }
        for (const charge of charges) keys.push(keyOf(charge));
      }
    }
    const answers = await on.run(COUNT, keys, args);
    return Array.isArray(answers) && answers.length === questions.length ? answers : odd();
  });

  // What every request waits for is a promise each, and no async function: those cost several, and a turn of the queue for each.
  const count = (mode: Question['mode'], charges: readonly Charge[], session?: Session): Promise<Said & Part> =>
    toRedis({ mode, charges, session }).then((answer) => read(charges, answer) ?? odd());

  async function isKnown(mark: string, id: string): Promise<boolean> {
    const answer = await toRedis({ mode: 'peek', charges: [], session: { id, mark, paysOnceRevoked: 0 } });
    return isOf(mark, answer) && (read([], answer) ?? odd()) !== undefined;
  }

  function odd(): never {
    on.onOdd?.('an answer that is no verdict');
    throw new Problem('unavailable', 'Redis: an answer that is no verdict', { retryAfterS: 1 });
  }

  const apart = on.isCluster
    ? lending({
        lend: (charges) => count('lend', charges),
        look: (charges) => count('peek', charges),
        giveBack: (charges, times) => on.run(GIVE_BACK, charges.map(keyOf), times.map(String)),
      })
    : undefined;

  async function ask(mode: 'peek' | 'take', asked: readonly Charge[]): Promise<Verdict> {
    const charges = distinct(asked);
    if (charges.length === 0) return { allowed: true, tightest: undefined };
    return apart ? apart[mode](charges) : (await count(mode, charges)).verdict;
  }

  function takeFor(id: string, always: readonly Charge[], ifLiving: readonly Charge[]): Promise<Answer> {
    const first = distinct(always);
    const charges = distinct([...first, ...ifLiving]);
    if (apart)
      return apart
        .takeFor(count('peek', [], { id, paysOnceRevoked: 0 }), first, charges.slice(first.length))
        .then((said) => ({ ...said, bucket: bucketOf(id) }));
    return toRedis({ mode: 'take', charges, session: { id, paysOnceRevoked: first.length } }).then((answer) =>
      answerFor(id, charges, answer),
    );
  }

  function answerFor(id: string, charges: readonly Charge[], answer: unknown): Answer {
    const { verdict, revoked, generation } = read(charges, answer) ?? odd();
    return { verdict, revoked, generation, bucket: bucketOf(id) };
  }

  return {
    peek: (charges) => ask('peek', charges),
    take: (charges) => ask('take', charges),

    takeFor,

    takeForKnown(mark, id, always, ifLiving) {
      if (apart) return isKnown(mark, id).then((known) => (known ? takeFor(id, always, ifLiving) : undefined));
      const first = distinct(always);
      const charges = distinct([...first, ...ifLiving]);
      return toRedis({ mode: 'take', charges, session: { id, mark, paysOnceRevoked: first.length } }).then((answer) =>
        isOf(mark, answer) ? answerFor(id, charges, answer) : undefined,
      );
    },

    async mark(sessionId, mark, forMs) {
      if (forMs <= 0) return;
      if ((await on.run(MARK, [markKey(sessionId)], [mark, String(Math.ceil(forMs))])) !== 'OK') odd();
    },

    async revoke(sessionId, forMs) {
      if (forMs <= 0) return;
      const answer = await (on.keep ?? on.run)(REVOKE, [revokedKey(sessionId)], [String(Math.ceil(forMs))]);
      if (answer !== 'OK') odd();
    },

    claim: (name, version, how) =>
      Promise.all(
        buckets.map(async (bucket) => String(await on.run(CLAIM, [generationKeys[bucket]!], [name, String(version), how ?? '']))),
      ),
  };
}

/** So long a script holds up everybody else, and no longer: about a millisecond. */
const MOST_IN_A_TRIP = 64;
/** Nobody waits longer for the answers of others. */
const PATIENCE_MS = 5;

/** In a cluster each place forgets for itself, so each bucket has a generation beside its revocations. */
const buckets = Array.from({ length: 64 }, (_, bucket) => bucket);

/** Ids are drawn by chance, so any mixture of their characters spreads them. */
function bucketOf(sessionId: string): number {
  let sum = 0;
  for (let i = 0; i < sessionId.length; i++) sum = (Math.imul(sum, 31) + sessionId.charCodeAt(i)) | 0;
  return sum & 63;
}

const hashed = (text: string): string => hash('sha256', text, 'base64url').slice(0, 22);

type Facts = { readonly hash: string; readonly max: string; readonly windowMs: string; readonly keys: RecentMap<string, string> };

type Session = { readonly id: string; readonly paysOnceRevoked: number; readonly mark?: string | undefined };
type Question = { readonly mode: 'peek' | 'take' | 'lend'; readonly charges: readonly Charge[]; readonly session?: Session | undefined };

/** Whether the two differ in nothing but whom they are about, so that Redis need be told the rest only once. */
const isLike = (one: Question, other: Question): boolean =>
  one.mode === other.mode &&
  one.session?.paysOnceRevoked === other.session?.paysOnceRevoked &&
  !one.session?.mark === !other.session?.mark &&
  one.charges.length === other.charges.length &&
  one.charges.every(({ rule }, i) => rule === other.charges[i]!.rule);

const distinct = (charges: readonly Charge[]): readonly Charge[] =>
  charges.length < 2
    ? charges
    : charges.filter(({ rule, who }, i) => charges.findIndex((other) => other.rule.id === rule.id && other.who === who) === i);

/** What {@link COUNT} answers; `undefined` for anything else. */
function read(charges: readonly Charge[], answer: unknown): (Said & Part) | undefined {
  if (!Array.isArray(answer)) return undefined;
  const allowed = answer[0] === 1;
  const [which, remaining, resetMs, generation]: unknown[] = [answer[1], answer[2], answer[3], answer[4]];
  if (!isWhole(which) || !isWhole(remaining) || !isWhole(resetMs)) return undefined;
  const charge = charges[which - 1];
  if (!charge && !(allowed && which === 0)) return undefined;
  const standing = charge && { rule: charge.rule, remaining, resetMs };
  return {
    verdict: standing && !allowed ? { allowed: false, refusedBy: standing } : { allowed: true, tightest: standing },
    speaksOf: charge,
    revoked: answer[5] === 1,
    generation: typeof generation === 'string' && generation !== '' ? generation : undefined,
    lent: answer.slice(6).map(Number),
  };
}

/**
 * So much of a mark is asked for; Redis must say the rest. A mark is worked out for whatever token comes, so a whole one in the
 * question would tell whoever listens to Redis what to write there for a token of his own.
 */
const ASKED = 16;

/** Whether Redis has kept this very mark: else it is not the session's last token, or nobody has told of it. */
function isOf(mark: string, answer: unknown): boolean {
  if (!Array.isArray(answer) || answer[0] === 2) return false;
  const [said, due] = [Buffer.from(String(answer[6])), Buffer.from(mark.slice(ASKED))];
  return due.length > 0 && said.length === due.length && timingSafeEqual(said, due);
}

const isWhole = (value: unknown): value is number => Number.isSafeInteger(value) && Number(value) >= 0;
