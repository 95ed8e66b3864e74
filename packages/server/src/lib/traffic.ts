import type { Answered, Refusal } from '@portcullis/guard';
import { type Histogram, histogram } from './histogram.ts';
import { type Tally, tally } from './tally.ts';

/** What came in and what became of it, in numbers. Nothing that a sender can write makes one more of them. */
export type Traffic = {
  answered(answered: Answered): void;
  refused(refusal: Pick<Refusal, 'code' | 'reason'>): void;
  routes(): Iterable<RouteTraffic>;
  readonly refusals: Tally;
  /** By the rule that refused. */
  readonly limitsHit: Tally;
  /** By why the credentials were no good: words of our own. */
  readonly badCredentials: Tally;
};

export type RouteTraffic = {
  readonly route: string;
  readonly method: string;
  readonly took: Histogram;
  /** How many answers had each status. */
  statuses(): Iterable<readonly [status: number, count: number]>;
};

const METHODS = new Set(['GET', 'HEAD', 'POST', 'PUT', 'PATCH', 'DELETE', 'OPTIONS']);

/** Seconds. A guarded route answers within a millisecond, a login takes the time of a hash, and waits for one at most two seconds. */
const BOUNDS = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5];

export function traffic(): Traffic {
  const routes = new Map<string | undefined, Map<string, Line>>();
  const [refusals, limitsHit, badCredentials] = [tally(), tally(), tally()];

  return {
    answered({ route, method, status, tookMs }) {
      // On the way of every request: two look-ups and two sums.
      const line = routes.get(route)?.get(method) ?? lineOf(route, METHODS.has(method) ? method : 'other');
      line.byStatus[status - 100] = (line.byStatus[status - 100] ?? 0) + 1;
      line.took.observe(tookMs / 1_000);
    },
    refused({ code, reason = 'other' }) {
      refusals.add(code);
      if (code === 'rate_limited') limitsHit.add(reason);
      if (code === 'credentials_invalid') badCredentials.add(reason);
    },
    *routes() {
      for (const [route = '(none)', byMethod] of routes) for (const [method, line] of byMethod) yield shown(route, method, line);
    },
    refusals,
    limitsHit,
    badCredentials,
  };

  function lineOf(route: string | undefined, method: string): Line {
    const byMethod = routes.getOrInsertComputed(route, () => new Map());
    return byMethod.getOrInsertComputed(method, () => ({ byStatus: [], took: histogram(BOUNDS) }));
  }
}

type Line = { readonly byStatus: number[]; readonly took: Histogram };

const shown = (route: string, method: string, { byStatus, took }: Line): RouteTraffic => ({
  route,
  method,
  took,
  *statuses() {
    for (const i of Object.keys(byStatus)) yield [Number(i) + 100, byStatus[Number(i)]!];
  },
});
