import {
  type Charge,
  type Clock,
  type Counters,
  recentMap,
  type RedisLedger,
  type Rule,
  type Standing,
  type Verdict,
} from '@portcullis/guard';
import { Problem } from '../../domain/problem.ts';

/** So many refusals are remembered, so that who is over a limit is told so again without asking Redis. */
const REMEMBERED = 10_000;

/**
 * Counters that all instances share, in Redis. While it is away each instance counts for itself, by limits divided among
 * those that live: less than a limit may be let in then, and at the change at most one share more; never without end.
 * @param on.instances how many share a limit; at least 1.
 */
export function sharedCounters(on: {
  redis: Pick<RedisLedger, 'take'>;
  isUp: () => boolean;
  local: Counters;
  instances: () => number;
  clock: Clock;
}): Counters {
  const refusedUntil = recentMap<string, number>(REMEMBERED);

  return {
    peek(charges) {
      if (!on.isUp()) return locally('peek', charges);
      const now = on.clock.now();
      for (const charge of charges) {
        const waitMs = (refusedUntil.get(keyOf(charge)) ?? 0) - now;
        if (waitMs > 0) return { allowed: false, refusedBy: { rule: charge.rule, remaining: 0, resetMs: waitMs } };
      }
      return { allowed: true, tightest: undefined };
    },

    async take(charges) {
      try {
        const verdict = await on.redis.take(charges);
        if (!verdict.allowed) remember(charges, verdict.refusedBy);
        return verdict;
      } catch (error) {
        if (!(error instanceof Problem) || error.code !== 'unavailable') throw error;
        return locally('take', charges);
      }
    },
  };

  function remember(charges: readonly Charge[], { rule, resetMs }: Standing): void {
    for (const charge of charges) if (charge.rule === rule) refusedUntil.set(keyOf(charge), on.clock.now() + resetMs);
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

const keyOf = ({ rule, who }: Charge): string => `${rule.id}\n${who}`;

/** The same counter, with one instance's share of the limit. */
const shareOf = (rule: Rule, instances: number): Rule =>
  instances === 1 ? rule : { ...rule, limit: { ...rule.limit, max: Math.max(1, Math.floor(rule.limit.max / instances)) } };
