import assert from 'node:assert/strict';
import { Agent, request } from 'node:https';
import { setTimeout as wait } from 'node:timers/promises';
import { decodeProtectedHeader } from 'jose';
import { freePort } from '../support/free-port.ts';
import { type Program, until } from '../support/program.ts';
import { configsOf, startProxy } from '../support/proxy.ts';
import { scrape } from '../support/scrape.ts';
import { alice, openSharedCluster } from '../support/cluster.ts';
import { findings, type Scene, type Seen } from './fault.ts';

const LINES = 8;
const CONFIG = configsOf('docs/how-to/run-several-instances.md', 'haproxy')[0] ?? '';

/**
 * Two instances behind HAProxy, set up as the page on several instances says, are restarted one after the other under load,
 * with a new key that signs at once in between. Callers keep a connection for fifty requests, or as long as they are let, and never ask twice:
 * whatever is not answered 200 has failed. Tokens of the old key are used to the end.
 * @param requests at least so many; it goes on until both are back.
 */
export async function rollingRestart(t: Scene, requests: number, workers = 1): Promise<Seen> {
  const found = findings();
  const stores = await openSharedCluster(t, {
    TRUSTED_PROXIES: '127.0.0.1',
    TRUSTED_PROXY_HEADER: 'proxy-protocol',
    SHUTDOWN_DELAY: '1500 ms', // two checks, and a little
    ADMIN_LISTEN: '127.0.0.1:0',
    SESSIONS_PER_USER: '10000',
    WORKERS: String(workers),
  });
  const ports = [await freePort(), await freePort()] as const;
  const start = (which: 0 | 1): Promise<Program> => stores.start(`instance ${which}`, { settings: { PORT: String(ports[which]) } });
  const instances = await Promise.all([start(0), start(1)]);
  const config = CONFIG.replaceAll(/(?<!ssl\/)api\.example\.com/g, 'localhost');
  const { port, ca } = await startProxy(t, 'haproxy', { config, to: ports });

  const began = performance.now();
  const tokens: string[] = [];
  const byProcess: number[] = [];
  let step = 'before';
  const done = new AbortController();
  let count = 0;
  const total = (): number => count;

  const lines = Array.from({ length: LINES }, async () => {
    let agent = new Agent({ keepAlive: true, maxSockets: 1 });
    const ask = async (method: string, path: string, { bearer, json }: { bearer?: string; json?: object } = {}): Promise<any> => {
      count += 1;
      found.add(path);
      if (count % 1_000 === 0) t.progress?.(Math.min(count, requests), requests);
      const { status, text } = await askOnce({ port, ca, agent, method, path, bearer, json });
      if (status !== 200) found.wrong(`${step}, ${Math.round(performance.now() - began)} ms: ${method} ${path}: ${status} ${text}`);
      return status === 200 ? JSON.parse(text) : undefined;
    };
    let device: string | undefined;
    let refresh: string | undefined;
    const mine: string[] = [];
    const take = (found: any): void => {
      if (!found) return;
      device = found.device_token ?? device;
      refresh = found.refresh_token;
      mine.push(found.access_token);
      tokens.push(found.access_token);
    };
    for (let i = 0; !done.signal.aborted || total() < requests; i++) {
      if (i % 50 === 0) {
        agent.destroy(); // else all would stay with the one that was there when the other was not
        agent = new Agent({ keepAlive: true, maxSockets: 1 });
      }
      if (i % 400 === 0) take(await ask('POST', '/login', { json: { ...alice, ...(device !== undefined && { device_token: device }) } }));
      else if (i % 25 === 0 && refresh !== undefined) take(await ask('POST', '/refresh', { bearer: refresh }));
      // Every other time the very first token, which the old key signed.
      else await ask('GET', '/protected', { bearer: (i % 2 ? mine[0] : mine.at(-1)) ?? '' });
      if (requests < 10_000) await wait(5);
    }
    agent.destroy();
  });

  const restart = async (which: 0 | 1): Promise<void> => {
    const old = instances[which];
    step = `${which} ends`;
    byProcess.push((await scrape(old)).value('portcullis_connections_accepted_total') ?? 0);
    assert.equal(await old.stop(), 0);
    step = `${which} starts`;
    instances[which] = await start(which);
    step = `${which} has started`;
    await until(
      async () =>
        ((await scrape(instances[which])).value('portcullis_http_requests_total', { route: '/protected', status: '200' }) ?? 0) > 20,
    );
  };
  await until(() => total() > Math.min(2_000, requests / 10));
  await restart(0);
  await stores.run('keys', 'rotate', '--now');
  await restart(1);
  step = 'after';
  done.abort();
  await Promise.all(lines);
  for (const instance of instances) byProcess.push((await scrape(instance)).value('portcullis_connections_accepted_total') ?? 0);

  const byKey = [...Map.groupBy(tokens, (token) => decodeProtectedHeader(token).kid).values()];
  for (const [token = ''] of byKey)
    for (const instance of instances) {
      const { status, text } = await instance.ask('GET', '/protected', { bearer: token, from: '127.0.0.2' });
      if (status !== 200) found.wrong(`a token at the end: ${status} ${text}`);
    }
  if (byKey.length !== 2) found.wrong(`tokens of ${byKey.length} keys`);
  for (const [i, answered] of byProcess.entries()) if (answered === 0) found.wrong(`process ${i} had no part`);
  return found.seen({ requests: count });
}

type Asked = { port: number; ca: string; agent: Agent; method: string; path: string; bearer: string | undefined; json: object | undefined };

/** Status 0: no whole answer. */
function askOnce({ port, ca, agent, method, path, bearer, json }: Asked): Promise<{ status: number; text: string }> {
  const body = json && JSON.stringify(json);
  const headers = {
    host: 'localhost',
    ...(bearer !== undefined && { authorization: `Bearer ${bearer}` }),
    ...(body !== undefined && { 'content-type': 'application/json', 'content-length': String(Buffer.byteLength(body)) }),
  };
  return new Promise((resolve) => {
    const failed = (error: Error): void => resolve({ status: 0, text: error.message });
    const sent = request({ host: '127.0.0.1', servername: 'localhost', port, ca, agent, method, path, headers }, (answer) => {
      let text = '';
      answer
        .setEncoding('utf8')
        .on('data', (chunk) => {
          text += chunk;
        })
        .on('error', failed)
        .on('end', () => resolve({ status: answer.statusCode ?? 0, text }));
    });
    sent.on('error', failed).end(body);
  });
}
