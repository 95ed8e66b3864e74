import { setTimeout as wait } from 'node:timers/promises';
import { alice, openCluster } from '../support/cluster.ts';
import { demoUser, type Ending, folderFor, logIn, type Program, startProgram, wideLimits } from '../support/program.ts';
import { startRedis } from '../support/redis.ts';
import { openHttp2 } from '../support/speak.ts';
import { findings, type Findings, type Scene, type Seen } from './fault.ts';
import { freshAddress } from './limits.ts';

const CLIENTS = 4;
const SAMPLES = 45;
/** Until then, what is kept for a while is not yet at its most. */
const WARM_UP = 1 / 3;
/** What an ended session is remembered for; so short that it is soon at its most. */
const settings = { ACCESS_TOKEN_TTL: '30 s', SESSIONS_PER_USER: '200', ADMIN_LISTEN: 'none' };
/** The inspector is how the heap of a program is measured that is told nothing of it. */
const env = { NODE_OPTIONS: '--inspect=127.0.0.1:0' };

type Sample = { readonly atMs: number; readonly heapKib: number; readonly handles: number };

/**
 * Whatever servers are asked in a day, good and bad, for so many minutes, on both stores at once; now and then the load
 * stands still, and what is left after garbage collection is measured.
 */
export async function mixedLoad(t: Scene, minutes: number): Promise<Seen> {
  const found = findings();
  const redis = await startRedis();
  t.after(redis.stop);
  const cluster = await openCluster(t, { ...settings, REDIS_URL: redis.url });
  await cluster.addAlice();
  const own = { ...wideLimits, ...settings, ISSUER: 'https://localhost' };
  const servers = [
    { name: 'SQLite', who: demoUser, program: await startProgram(t, { folder: folderFor(t), settings: own, env }) },
    { name: 'PostgreSQL', who: alice, program: await cluster.start('one', { env }) },
  ];
  const figures: Record<string, number> = {};
  await Promise.all(
    servers.map(async ({ name, who, program }) => {
      const samples = await soak(t, program, who, minutes * 60_000, found);
      const steady = samples.filter(({ atMs }) => atMs >= minutes * 60_000 * WARM_UP);
      const half = steady.length / 2;
      const fewest = (of: readonly Sample[]): number => Math.min(...of.map(({ handles }) => handles)); // connections come and go
      figures[`${name}: heap KiB at the end`] = Math.round(steady.at(-1)?.heapKib ?? NaN);
      figures[`${name}: heap KiB more in 10 min`] = Math.round(
        slope(steady.map(({ atMs, heapKib }) => [atMs / 600_000, heapKib] as const)),
      );
      figures[`${name}: handles more`] = fewest(steady.slice(half)) - fewest(steady.slice(0, half));
    }),
  );
  return found.seen(figures);
}

async function soak(t: Scene, program: Program, who: Who, forMs: number, found: Findings): Promise<Sample[]> {
  const inspector = await inspect(t, program);
  const { device } = await logIn(program, who);
  const samples: Sample[] = [];
  const began = performance.now();
  for (let i = 1; i <= SAMPLES; i += 1) {
    const until = began + (forMs * i) / SAMPLES;
    await Promise.all(Array.from({ length: CLIENTS }, () => ask(program, who, device, until, found)));
    await wait(300); // what was closed has gone
    samples.push({ atMs: performance.now() - began, ...(await inspector()) });
    t.progress?.(i, SAMPLES);
  }
  return samples;
}

type Who = typeof demoUser | typeof alice;

/** One client, until it is late enough. */
async function ask(program: Program, who: Who, device: string, until: number, found: Findings): Promise<void> {
  const expect = async (what: string, asked: ReturnType<Program['ask']>, ...statuses: number[]) => {
    const answer = await asked;
    found.add('answers');
    if (!statuses.includes(answer.status)) found.wrong(`${what}: ${answer.status} ${answer.text}`);
    return answer;
  };
  while (performance.now() < until) {
    const login = await expect('login', program.ask('POST', '/login', { json: { ...who, device_token: device } }), 200, 503);
    if (login.status === 503) continue;
    const { access_token: bearer, refresh_token: refresh } = login.json;
    for (let i = 0; i < 5; i += 1) await expect('protected', program.ask('GET', '/protected', { bearer }), 200);
    await expect('from elsewhere', program.ask('GET', '/protected', { bearer, from: freshAddress() }), 200);
    const next = await expect('refresh', program.ask('POST', '/refresh', { bearer: refresh }), 200);
    await overHttp2(program, next.json.access_token, found);
    await expect('nothing there', program.ask('GET', `/${Math.random()}`), 404);
    await expect('no token', program.ask('GET', '/protected', { bearer: `x${Math.random()}`, from: freshAddress() }), 401);
    await expect('no JSON', program.ask('POST', '/login', { body: '{', headers: { 'content-type': 'application/json' } }), 400);
    const guess = { username: `nobody ${Math.random()}`, password: 'x' };
    await expect('guess', program.ask('POST', '/login', { json: guess, from: freshAddress() }), 401, 503);
    if (Math.random() < 0.8) await expect('logout', program.ask('POST', '/logout', { bearer: next.json.access_token }), 200);
  }
}

async function overHttp2(program: Program, bearer: string, found: Findings): Promise<void> {
  const works: (() => Promise<void> | void)[] = [];
  const own: Ending = { after: (work) => void works.push(work) };
  const send = await openHttp2(own, program);
  for (let i = 0; i < 3; i += 1) {
    const { status } = await send({ ':path': '/protected', authorization: `Bearer ${bearer}` });
    if (status !== 200) found.wrong(`over HTTP/2: ${status}`);
  }
  for (const work of works) await work();
}

/** How the heap of a program stands once garbage is collected, and how many handles it has, timers left out: they come and go. */
async function inspect(t: Scene, program: Program): Promise<() => Promise<Omit<Sample, 'atMs'>>> {
  const url = /ws:\/\/\S+/.exec(program.output())?.[0];
  if (!url) throw new Error(`no inspector:\n${program.output()}`);
  const socket = new WebSocket(url);
  await new Promise((done) => socket.addEventListener('open', done, { once: true }));
  t.after(() => socket.close());
  let asked = 0;
  const call = (method: string, params: object = {}): Promise<any> =>
    new Promise((done) => {
      const id = (asked += 1);
      const hear = ({ data }: MessageEvent): void => {
        const answer = JSON.parse(String(data));
        if (answer.id !== id) return;
        socket.removeEventListener('message', hear);
        done(answer.result);
      };
      socket.addEventListener('message', hear);
      socket.send(JSON.stringify({ id, method, params }));
    });
  const expression = `({ heapKib: process.memoryUsage().heapUsed / 1024, handles: process.getActiveResourcesInfo().filter((name) => name !== 'Timeout' && name !== 'Immediate').length })`;
  return async () => {
    for (let i = 0; i < 2; i += 1) await call('HeapProfiler.collectGarbage');
    return (await call('Runtime.evaluate', { expression, returnByValue: true })).result.value;
  };
}

/** By least squares: how much y grows as x grows by one. */
function slope(points: readonly (readonly [x: number, y: number])[]): number {
  const mean = (of: readonly number[]): number => of.reduce((sum, one) => sum + one, 0) / of.length;
  const [x, y] = [mean(points.map(([x]) => x)), mean(points.map(([, y]) => y))];
  const over = points.reduce((sum, [px, py]) => sum + (px - x) * (py - y), 0);
  return over / points.reduce((sum, [px]) => sum + (px - x) ** 2, 0);
}
