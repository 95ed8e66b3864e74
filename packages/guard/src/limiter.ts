import type { Charge, Counters, Standing, Verdict } from './counters.ts';
import type { Head } from './dressed-response.ts';
import type { Rule } from './limit.ts';
import { Problem } from './problem.ts';
import type { Revocations } from './revocation.ts';
import { andThen, orElse, type Soon } from './soon.ts';

/** Decides by the counters; on the answer it tells how the limits stand. What a limit refuses is handed back as `rate_limited`. */
export interface Limiter {
  /** Refuses who is over one of these limits already; counts nothing. */
  check(asked: readonly Charge[], at: Place): Soon<Problem | undefined>;
  /** Counts the request on every charge, or refuses it and counts it on none. */
  count(asked: readonly Charge[], at: Place): Soon<Problem | undefined>;
  /**
   * The same, and whether the session is revoked: then it counts on `always` alone; or, where that is known before it is counted, on
   * what a failure pays too: `'paid'`.
   */
  countFor(sessionId: string, always: readonly Charge[], ifLiving: readonly Charge[], at: Place): Soon<boolean | 'paid' | Problem>;
  /** Counts for a token by its mark, and leaves the verdict to {@link admit}. Left out where nobody keeps marks. */
  takeForKnown: Counters['takeForKnown'];
  /** Tells of a verdict, or refuses by it. */
  admit(verdict: Verdict, at: Place): Problem | undefined;
  /** Charges, and what a failed authentication pays beside them, whatever the route. */
  withFailure(asked: readonly Charge[], at: Place): readonly Charge[];
  /** What it pays where nothing else is counted with it. */
  countFailure(at: Place): Soon<Problem | undefined>;
}

/** Which address block asks, by which rules it is told, and on which answer. */
export type Place = {
  readonly block: string;
  readonly rules: readonly Rule[];
  readonly answer: Head;
};

export type LimiterOptions = { readonly counters: Counters; readonly revocations: Revocations; readonly failureRules: readonly Rule[] };

export function limiter({ counters, revocations, failureRules }: LimiterOptions): Limiter {
  const count: Limiter['count'] = (asked, at) => andThen(counters.take(asked), (verdict) => admit(verdict, at));

  return {
    check: (asked, at) => andThen(counters.peek(asked), (verdict) => refusalBy(verdict, at)),
    count,
    countFor(sessionId, always, ifLiving, at) {
      if (counters.takeFor)
        return andThen(counters.takeFor(sessionId, always, ifLiving), ({ verdict, revoked }) => admit(verdict, at) ?? revoked);
      const asked = orElse<boolean | Problem>(
        () => revocations.isRevoked(sessionId),
        (unknown) =>
          andThen(count(always, at), (refused) => {
            if (refused) return refused;
            throw unknown; // it costs the address no less
          }),
      );
      return andThen(asked, (revoked) => {
        if (revoked instanceof Problem) return revoked;
        const asked = revoked ? withFailure(always, at) : ifLiving.length > 0 ? [...always, ...ifLiving] : always;
        return andThen(count(asked, at), (refused) => refused ?? (revoked && 'paid'));
      });
    },
    takeForKnown: counters.takeForKnown?.bind(counters),
    admit,
    withFailure,
    countFailure: (at) => andThen(counters.take(charges(failureRules, at.block)), (verdict) => refusalBy(verdict, at)),
  };

  function withFailure(asked: readonly Charge[], { block }: Place): readonly Charge[] {
    return asked.concat(charges(failureRules, block));
  }

  function admit(verdict: Verdict, at: Place): Problem | undefined {
    if (verdict.allowed && verdict.tightest) show(verdict.tightest, rulesBeside(verdict.tightest, at), at);
    return refusalBy(verdict, at);
  }

  function refusalBy(verdict: Verdict, at: Place): Problem | undefined {
    if (verdict.allowed) return undefined;
    const { rule, resetMs } = verdict.refusedBy;
    show(verdict.refusedBy, rulesBeside(verdict.refusedBy, at), at);
    return rateLimited(rule, Math.max(1, Math.ceil(resetMs / 1_000)));
  }

  function rulesBeside({ rule }: Standing, { rules }: Place): readonly Rule[] {
    return failureRules.includes(rule) ? failureRules : rules;
  }
}

/** Many in a row are refused by the same rule for the same time. */
function rateLimited(rule: Rule, retryAfterS: number): Problem {
  let problem = lastOf.get(rule);
  if (problem?.extra.retryAfterS !== retryAfterS) {
    const extra = Object.freeze({ retryAfterS, violatedPolicies: Object.freeze([rule.name]) });
    lastOf.set(rule, (problem = Object.freeze(new Problem('rate_limited', rule.id, extra))));
  }
  return problem;
}

const lastOf = new WeakMap<Rule, Problem>();

export const charges = (rules: readonly Rule[], who: string): Charge[] => rules.map((rule) => ({ rule, who }));

/** `RateLimit-Policy` names every rule of the place, `RateLimit` the one nearest to its end (draft-ietf-httpapi-ratelimit-headers-11). */
function show({ rule, remaining, resetMs }: Standing, rules: readonly Rule[], { answer }: Place): void {
  answer.header('ratelimit-policy', policyOf(rules));
  answer.header('ratelimit', `"${rule.name}";r=${remaining};t=${Math.ceil(resetMs / 1_000)}`);
}

const policies = new WeakMap<readonly Rule[], string>();

function policyOf(rules: readonly Rule[]): string {
  let text = policies.get(rules);
  if (text === undefined) {
    text = rules.map(({ name, limit }) => `"${name}";q=${limit.max};w=${Math.ceil(limit.windowMs / 1_000)}`).join(', ');
    policies.set(rules, text);
  }
  return text;
}
