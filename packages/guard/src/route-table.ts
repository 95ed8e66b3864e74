import type { RouteOptions } from 'fastify';
import findMyWay from 'find-my-way';
import type { Rule } from './limit.ts';

/** A route as `portcullis routes` shows it. */
export type GuardedRoute = {
  readonly method: string;
  readonly path: string;
  readonly access: string;
  readonly limits: readonly string[];
  readonly summary: string;
};

/** Those that `Allow` tells of. */
const METHODS = ['GET', 'HEAD', 'POST', 'PUT', 'PATCH', 'DELETE'] as const;

/** All routes, and which methods a path takes: for 405, for `Allow` and for preflights. */
export function routeTable() {
  const rows: GuardedRoute[] = [];
  const router = findMyWay();
  const known = new Set<string>();

  return {
    all: (): readonly GuardedRoute[] => rows,

    add(route: RouteOptions, access: string, rules: readonly Rule[]): void {
      for (const method of [route.method].flat()) {
        const key = `${method} ${route.url}`;
        if (known.has(key)) continue;
        known.add(key);
        const common = METHODS.find((one) => one === method);
        if (common) router.on(common, route.url, () => {});
        if (method === 'HEAD') continue;
        const summary = route.schema?.summary ?? '';
        rows.push({ method, path: route.url, access, limits: rules.map(({ limit }) => limit.text), summary });
      }
    },

    /** The methods that the path of this URL takes; none for an unknown path. */
    methods(url: string): string[] {
      return METHODS.filter((method) => router.find(method, url) !== null);
    },

    /** Those of all paths together, for `OPTIONS *` (RFC 9110 section 9.3.7). */
    allMethods: (): string[] =>
      METHODS.filter((method) => rows.some((row) => row.method === method || (method === 'HEAD' && row.method === 'GET'))),
  };
}
