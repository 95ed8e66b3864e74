import { once } from 'node:events';
import type { AddressInfo } from 'node:net';
import type { Clock } from '@portcullis/guard';
import type { House } from './house.ts';
import { adminServer } from './http/admin.ts';
import type { Wire } from './http/wire.ts';
import { certificateDetail, type CertificateKeeper } from './keep-certificate.ts';
import { eventLoop } from './lib/event-loop.ts';
import { every } from './lib/every.ts';
import { version } from './lib/version.ts';
import { atLeisure, showMetrics } from './metrics.ts';
import type { Settings } from './settings/table.ts';

/** What a running server shows of itself to its operators. */
export type Inside = {
  readonly settings: Settings;
  readonly clock: Clock;
  readonly house: House;
  readonly wire: Wire;
  /** `undefined` where a proxy ends TLS. */
  readonly keeper: CertificateKeeper | undefined;
  readonly limitCounters: () => number;
  readonly isStoreUp: () => Promise<boolean>;
  readonly isDraining: () => boolean;
};

/** Serves readiness with its reasons, and the metrics, where `ADMIN_LISTEN` says. */
export async function listenForOperators(
  listen: NonNullable<Settings['adminListen']>,
  inside: Inside,
  held: AsyncDisposableStack,
): Promise<AddressInfo> {
  const server = adminServer(await pagesOf(inside, held));
  server.listen(listen.port, listen.host);
  await once(server, 'listening');
  held.defer(() => {
    server.close();
    server.closeAllConnections();
  });
  return server.address() as AddressInfo; // a TCP server's, not a pipe's
}

async function pagesOf({ settings, clock, house, wire, keeper, limitCounters, isStoreUp, isDraining }: Inside, held: AsyncDisposableStack) {
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
      const why = isDraining() ? 'draining' : (await isStoreUp()) ? undefined : 'store';
      return {
        ready: why === undefined,
        ...(why !== undefined && { why }),
        version,
        upS: Math.floor((clock.now() - startedAt) / 1_000),
        connections: wire.connections(),
        hashesWaiting: house.hashes.waiting(),
        revokedSessions: services.revoked.size(),
        keys: services.keyRing.states(),
        ...(keeper && { certificate: certificateDetail(keeper.status(), clock.now()) }),
        securityLog: house.securityLog.state(),
        schema,
      };
    },
    async metrics(format: Parameters<typeof showMetrics>[1]) {
      const storeUp = await isStoreUp();
      const seen = {
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
        isReady: storeUp && !isDraining(),
        isStoreUp: storeUp,
        liveSessions: storeUp ? await liveSessions() : undefined,
      };
      return showMetrics(seen, format);
    },
  };
}
