import { once } from 'node:events';
import type { AddressInfo } from 'node:net';
import type { Clock } from '@portcullis/guard';
import type { House } from './house.ts';
import { adminServer, type Detail } from './http/admin.ts';
import type { Wire } from './http/wire.ts';
import { certificateDetail, type CertificateKeeper } from './keep-certificate.ts';
import { eventLoop } from './lib/event-loop.ts';
import { exposition, type Family } from './lib/exposition.ts';
import { every } from './lib/every.ts';
import { serverLog } from './lib/server-log.ts';
import { version } from './lib/version.ts';
import { atLeisure, readMetrics } from './metrics.ts';
import { openPort } from './mistake.ts';
import type { Settings } from './settings/table.ts';
import type { SharedLimits } from './share-limits.ts';

/** What a running server shows of itself to its operators. */
export type Inside = {
  readonly settings: Settings;
  readonly clock: Clock;
  readonly house: House;
  readonly wire: Wire;
  /** `undefined` where a proxy ends TLS. */
  readonly keeper: CertificateKeeper | undefined;
  /** `undefined` where this process counts for itself. */
  readonly sharedLimits: SharedLimits | undefined;
  readonly limitCounters: () => number;
  /** Why the store cannot be asked; `undefined` when it can. */
  readonly storeTrouble: () => Promise<string | undefined>;
  /** Why requests should not be sent here; `undefined` when they may. */
  readonly whyNotReady: () => Promise<string | undefined>;
};

/** What operators are shown, as plain data: where several workers serve, another process puts theirs together. */
export type OperatorPages = {
  readonly detail: () => Promise<Detail>;
  readonly metrics: () => Promise<readonly Family[]>;
};

/** Serves readiness with its reasons, and the metrics, where `ADMIN_LISTEN` says. */
export async function listenForOperators(
  listen: NonNullable<Settings['adminListen']>,
  { detail, metrics }: OperatorPages,
  held: AsyncDisposableStack,
): Promise<AddressInfo> {
  const server = adminServer({ detail, metrics: async (format) => exposition(await metrics(), format) });
  const by = 'PORTCULLIS_ADMIN_LISTEN';
  await openPort({ host: by, port: by }, () => once(server.listen(listen.port, listen.host), 'listening'));
  held.defer(() => {
    server.close();
    server.closeAllConnections();
  });
  return server.address() as AddressInfo; // a TCP server's, not a pipe's
}

/** Asks the store whether it is there, and says a change in the log. @returns why it is not, `undefined` when it is. */
export function storeWatch(ping: () => Promise<unknown>): () => Promise<string | undefined> {
  let before: string | undefined;
  return async () => {
    const trouble = await ping().then(
      () => undefined,
      (error: unknown) => (error instanceof Error ? error.message : String(error)),
    );
    if (trouble !== undefined && before === undefined) serverLog.error({ trouble }, 'not ready: the store cannot be asked');
    if (trouble === undefined && before !== undefined) serverLog.info('ready again');
    before = trouble;
    return trouble;
  };
}

export async function operatorPages(
  { settings, clock, house, wire, keeper, sharedLimits, limitCounters, storeTrouble, whyNotReady }: Inside,
  held: AsyncDisposableStack,
): Promise<OperatorPages> {
  const { services } = house;
  const startedAt = clock.now();
  const processStartedAt = startedAt - process.uptime() * 1_000;
  const schema = (await house.store.migrations()).at(-1)?.name;
  const loop = eventLoop();
  held.defer(loop.stop);
  every(held, 1_000, loop.tick);
  const liveSessions = atLeisure(clock, () => services.sessions.countLive(clock.now()));

  return {
    async detail() {
      const [why, trouble] = [await whyNotReady(), await storeTrouble()];
      return {
        ready: why === undefined,
        ...(why !== undefined && { why }),
        ...(trouble !== undefined && { trouble }),
        version,
        upS: Math.floor((clock.now() - startedAt) / 1_000),
        connections: wire.connections(),
        hashesWaiting: house.hashes.waiting(),
        revokedSessions: services.revoked.size(),
        keys: services.keyRing.states(),
        ...(keeper && { certificate: certificateDetail(keeper.status(), clock.now()) }),
        ...(sharedLimits && {
          redis: sharedLimits.isUp() ? 'up' : 'away',
          sessionsAskedOf: sharedLimits.isBelieved() ? 'Redis' : 'database',
        }),
        securityLog: house.securityLog.state(),
        schema,
      };
    },
    async metrics() {
      const storeUp = (await storeTrouble()) === undefined;
      return readMetrics({
        ...house,
        clock,
        startedAt: processStartedAt,
        settings,
        wire: wire.counts(),
        loop,
        keys: services.keyRing.states(),
        revokedSessions: services.revoked.size(),
        limitCounters: limitCounters(),
        certificate: keeper?.status(),
        isReady: (await whyNotReady()) === undefined,
        isStoreUp: storeUp,
        isRedisUp: sharedLimits?.isUp(),
        isRedisBelieved: sharedLimits?.isBelieved(),
        liveSessions: storeUp ? await liveSessions() : undefined,
      });
    },
  };
}
