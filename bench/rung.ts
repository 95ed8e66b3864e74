import type { RequestListener } from 'node:http';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type Counters, open, systemClock } from '@portcullis/guard';
import { z } from 'zod';
import { makeApp, wireRefusals } from '../packages/server/src/app.ts';
import { addUser } from '../packages/server/src/flows/add-user.ts';
import { ensureSigningKey } from '../packages/server/src/flows/keep-keys.ts';
import { type House, openHouse } from '../packages/server/src/house.ts';
import { makeServer, type Server } from '../packages/server/src/http/server.ts';
import { makeWire, type Wire, type WireOptions } from '../packages/server/src/http/wire.ts';
import { readSettings } from '../packages/server/src/settings/read.ts';

/**
 * A part of the server, made of what the server itself is made of: some of the gates behind its own wire, and where a gate
 * asks somebody (counters, revocations, metrics, the log), either whom the server asks or nobody. Nothing in the product
 * knows of this: what can be left out here are ports.
 */
export type RungSetting = { readonly cert: string; readonly key: string; readonly built: Built };

/** `wire` and `fastify` have no gate; the rest has all, and asks those that are named. */
export type Built = 'wire' | 'fastify' | { readonly asks: readonly Asked[] };
export type Asked = 'counters' | 'revocations' | 'metrics' | 'log';

/** `access`: a token for `/protected`. At `/open` is the same, for anyone. */
export type RungReady = { readonly port: number; readonly access: string };

const body = { logged_in_as: 'testuser' };
const clock = systemClock();

process.once('message', (setting: RungSetting) => void serve(setting).then((ready) => process.send?.(ready)));
for (const gone of ['disconnect', 'error']) process.once(gone, () => process.exit()); // who started it

async function serve({ cert, key, built }: RungSetting): Promise<RungReady> {
  const wire = (refusal: WireOptions['refusal']): Wire =>
    makeWire({ tls: { cert, key }, clock, maxConnections: 2_000, maxConnectionsPerAddress: 200, isProxy: () => false, refusal });
  if (typeof built !== 'string') return guarded(built.asks, wire);
  const alone = wire((code) => {
    throw new Error(code);
  });
  if (built === 'wire') alone.serverFactory(bare);
  else await withRoute(makeServer(alone.serverFactory), '/protected').ready();
  return { port: (await alone.listen('127.0.0.1', 0)).port, access: '' };
}

const text = JSON.stringify(body);
const bare: RequestListener = (_, response) => {
  response.writeHead(200, { 'content-type': 'application/json; charset=utf-8', 'content-length': Buffer.byteLength(text) }).end(text);
};

function withRoute(app: Server, path: string): Server {
  app.get(
    path,
    { config: { access: open(), limits: [LIMIT] }, schema: { response: { 200: z.object({ logged_in_as: z.string() }) } } },
    (_, reply) => {
      reply.send(body);
    },
  );
  return app;
}

const LIMIT = '1000000000 per day by ip';

async function guarded(asks: readonly Asked[], makeWire: (refusal: WireOptions['refusal']) => Wire): Promise<RungReady> {
  const folder = mkdtempSync(join(tmpdir(), 'portcullis-bench-'));
  process.once('exit', () => rmSync(folder, { recursive: true, force: true }));
  const env = { PORTCULLIS_DATA_DIR: folder, PORTCULLIS_PROTECTED_LIMITS: LIMIT, PORTCULLIS_AUTH_FAILURE_LIMITS: LIMIT };
  const reading = readSettings({ mode: 'dev', env, flags: {}, readFile: () => '' });
  if ('mistakes' in reading) throw new Error(reading.mistakes.join('\n'));
  const [issuer, secret] = ['https://localhost', 'a secret of thirty-two bytes or more'];
  const house = await openHouse({ settings: reading.settings, issuer, secrets: [secret], clock });
  await ensureSigningKey(house.services, 'EdDSA', secret);
  await house.services.keyRing.load();
  await addUser(house.services, 'testuser', PASSWORD);

  const wire = makeWire(wireRefusals(house));
  const { app } = await makeApp({
    settings: reading.settings,
    issuer,
    house: askingOnly(asks, house),
    readiness: async () => undefined,
    serverFactory: wire.serverFactory,
    ...(!asks.includes('counters') && { sharedLimits: { isUp: () => true, isBelieved: () => true, over: () => countsNothing } }),
    routes: (app) => void withRoute(app, '/open'),
  });
  const login = await app.inject({ method: 'POST', url: '/login', payload: { username: 'testuser', password: PASSWORD } });
  return { port: (await wire.listen('127.0.0.1', 0)).port, access: login.json().access_token };
}

const PASSWORD = 'a long sentence is a good password';

const countsNothing: Counters = {
  peek: () => ({ allowed: true, tightest: undefined }),
  take: () => ({ allowed: true, tightest: undefined }),
};

function askingOnly(asks: readonly Asked[], house: House): House {
  const { services, traffic, securityLog } = house;
  return {
    ...house,
    services: { ...services, ...(!asks.includes('revocations') && { revoked: { ...services.revoked, isRevoked: () => false } }) },
    // What the guard takes for nobody to tell; the server itself always tells somebody, so its type knows of no such thing.
    traffic: asks.includes('metrics') ? traffic : ({ ...traffic, answered: undefined } as unknown as House['traffic']),
    securityLog: asks.includes('log') ? securityLog : { ...securityLog, refused: () => {} },
  };
}
