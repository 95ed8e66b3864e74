import {
  type Charge,
  type Clock,
  type Counters,
  recentMap,
  type RedisAnswer,
  type RedisLedger,
  type Rule,
  type Standing,
  type Verdict,
} from '@portcullis/guard';
import type { Belief, SharedRevocations } from './shared-revocations.ts';
import { unlessUnavailable } from './unavailable.ts';

/** So many refusals are remembered, so that who is over a limit is told so again without asking Redis. */
const REMEMBERED = 10_000;

/**
 * Counters that all instances share, in Redis. While it is away each instance counts for itself, by limits divided among
 * those that live: less than a limit may be let in then, and at the change at most a share more on each; never without end.
 * @param on.instances how many share a limit; at least 1.
 */
export function sharedCounters(on: {
  redis: Pick<RedisLedger, 'take' | 'takeFor' | 'takeForKnown'>;
  revocations: Pick<SharedRevocations, 'belief' | 'judge'>;
  isUp: () => boolean;
  local: Counters;
  instances: () => number;
  clock: Clock;
}): Required<Counters> {
  /** By who it is, and then by the rule. */
  const refusedUntil = recentMap<string, Map<string, number>>(REMEMBERED);

  return {
    peek(charges) {
      if (!on.isUp()) return locally('peek', charges);
      const now = on.clock.now();
      for (const charge of charges) {
        const waitMs = (refusedUntil.get(charge.who)?.get(charge.rule.id) ?? 0) - now;
        if (waitMs > 0) return { allowed: false, refusedBy: { rule: charge.rule, remaining: 0, resetMs: waitMs } };
      }
      return { allowed: true, tightest: undefined };
    },

    async take(charges) {
      try {
        return remember(charges, await on.redis.take(charges));
      } catch (error) {
        unlessUnavailable(error);
        return locally('take', charges);
      }
    },

    takeForKnown(mark, sessionId, always, ifLiving) {
      const belief = on.revocations.belief();
      return on.redis
        .takeForKnown(mark, sessionId, always, ifLiving)
        .then((said) => said && judged(said, sessionId, [...always, ...ifLiving], belief), unlessUnavailable);
    },

    takeFor(sessionId, always, ifLiving) {
      const belief = on.revocations.belief();
      const charges = [...always, ...ifLiving];
      return on.redis.takeFor(sessionId, always, ifLiving).then(
        (said) => judged(said, sessionId, charges, belief),
        (error: unknown) => {
          unlessUnavailable(error);
          return withoutRedis(sessionId, always, charges);
        },
      );
    },
  };

  function judged(said: RedisAnswer, sessionId: string, charges: readonly Charge[], belief: Belief | undefined) {
    const verdict = remember(charges, said.verdict);
    if (!verdict.allowed) return { verdict, revoked: false };
    const revoked = on.revocations.judge(sessionId, said, belief);
    return typeof revoked === 'boolean' ? { verdict, revoked } : revoked.then((known) => ({ verdict, revoked: known }));
  }

  async function withoutRedis(sessionId: string, always: readonly Charge[], charges: readonly Charge[]) {
    let revoked: boolean;
    try {
      revoked = await on.revocations.judge(sessionId, undefined, undefined);
    } catch (error) {
      await locally('take', always); // it costs the address no less
      throw error;
    }
    return { verdict: await locally('take', revoked ? always : charges), revoked };
  }

  function remember(charges: readonly Charge[], verdict: Verdict): Verdict {
    if (verdict.allowed) return verdict;
    const { rule, resetMs } = verdict.refusedBy;
    for (const charge of charges) {
      if (charge.rule !== rule) continue;
      const untils = refusedUntil.get(charge.who) ?? new Map<string, number>();
      refusedUntil.set(charge.who, untils.set(rule.id, on.clock.now() + resetMs));
    }
    return verdict;
  }

  async function locally(how: 'peek' | 'take', charges: readonly Charge[]): Promise<Verdict> {
    const instances = Math.max(1, on.instances());
    const verdict = await on.local[how](charges.map((charge) => ({ ...charge, rule: shareOf(charge.rule, instances) })));
    const whole = (standing: Standing): Standing => ({
      ...standing,
      rule: charges.find(({ rule }) => rule.id === standing.rule.id)?.rule ?? standing.rule,
    });
    if (!verdict.allowed) return { allowed: false, refusedBy: whole(verdict.refusedBy) };
    return { allowed: true, tightest: verdict.tightest && whole(verdict.tightest) };
  }
}

/** The same counter, with one instance's share of the limit. */
const shareOf = (rule: Rule, instances: number): Rule =>
  instances === 1 ? rule : { ...rule, limit: { ...rule.limit, max: Math.max(1, Math.floor(rule.limit.max / instances)) } };
