import type { Charge, Counters, Standing, Verdict } from './counters.ts';
import type { Head } from './dressed-response.ts';
import type { Rule } from './limit.ts';
import { Problem } from './problem.ts';
import type { Revocations } from './revocation.ts';
import { andThen, orElse, type Soon } from './soon.ts';

/** Decides by the counters; on the answer it tells how the limits stand. Whatever a limit refuses is a {@link Problem} `rate_limited`. */
export interface Limiter {
  /** Refuses who is over a limit already, or has failed to authenticate too often; counts nothing. */
  check(asked: readonly Charge[], at: Place): Soon<void>;
  /** Counts the request on every charge, or refuses it and counts it on none. */
  count(asked: readonly Charge[], at: Place): Soon<void>;
  /** The same, and whether the session is revoked: then it counts on `always` alone. */
  countFor(sessionId: string, always: readonly Charge[], ifLiving: readonly Charge[], at: Place): Soon<boolean>;
  /** Counts for a token by its mark, and leaves the verdict to {@link admit}. Left out where nobody keeps marks. */
  takeForKnown: Counters['takeForKnown'];
  /** Tells of a verdict, or refuses by it. */
  admit(verdict: Verdict, at: Place): void;
  /** What a failed authentication pays, whatever the route. */
  countFailure(at: Place): Soon<void>;
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
    check: (asked, at) => andThen(counters.peek([...asked, ...charges(failureRules, at.block)]), (verdict) => refuseIf(verdict, at)),
    count,
    countFor(sessionId, always, ifLiving, at) {
      if (counters.takeFor)
        return andThen(counters.takeFor(sessionId, always, ifLiving), ({ verdict, revoked }) => {
          admit(verdict, at);
          return revoked;
        });
      const asked = orElse(
        () => revocations.isRevoked(sessionId),
        (unknown) =>
          andThen(count(always, at), () => {
            throw unknown; // it costs the address no less
          }),
      );
      return andThen(asked, (revoked) => andThen(count(revoked ? always : [...always, ...ifLiving], at), () => revoked));
    },
    takeForKnown: counters.takeForKnown?.bind(counters),
    admit,
    countFailure: (at) => andThen(counters.take(charges(failureRules, at.block)), (verdict) => refuseIf(verdict, at)),
  };

  function admit(verdict: Verdict, at: Place): void {
    if (verdict.allowed && verdict.tightest) show(verdict.tightest, at.rules, at);
    refuseIf(verdict, at);
  }

  function refuseIf(verdict: Verdict, at: Place): void {
    if (verdict.allowed) return;
    const { rule, resetMs } = verdict.refusedBy;
    show(verdict.refusedBy, failureRules.includes(rule) ? failureRules : at.rules, at);
    throw new Problem('rate_limited', rule.id, { retryAfterS: Math.max(1, Math.ceil(resetMs / 1_000)), violatedPolicies: [rule.name] });
  }
}

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
