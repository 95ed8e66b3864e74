import assert from 'node:assert/strict';
import { readFileSync, renameSync } from 'node:fs';
import { Agent, request } from 'node:https';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import { setTimeout as wait } from 'node:timers/promises';
import { start as startServer } from '../packages/server/src/start.ts';
import { type Program, runCommand, shared, until } from './support/program.ts';
import { without } from './support/needs.ts';
import { isPostgresHere } from './support/postgres.ts';
import { isRedisHere } from './support/redis.ts';
import { assertRefused } from './support/refusal.ts';
import { askAdmin, scrape } from './support/scrape.ts';
import { alice, openSharedCluster } from './support/cluster.ts';
import { head, openHttp2, speak } from './support/speak.ts';

const skip = without('PostgreSQL or Redis', isPostgresHere && isRedisHere);
const workers = { WORKERS: '2', ADMIN_LISTEN: '127.0.0.1:0' };

type Detail = { ready: boolean; why?: string; workers: { pid: number; ready: boolean; why?: string; connections: number }[] };
const detailOf = async (program: Program): Promise<Detail> => JSON.parse((await askAdmin(program, '/readyz')).text);
const pidsOf = async (program: Program): Promise<number[]> => (await detailOf(program)).workers.map(({ pid }) => pid);

async function logIn(program: Program): Promise<{ access: string; refresh: string; device: string }> {
  const { status, json, text } = await program.ask('POST', '/login', { json: alice });
  assert.equal(status, 200, text);
  return { access: json.access_token, refresh: json.refresh_token, device: json.device_token };
}

const isAlive = (pid: number): boolean => {
  try {
    process.kill(pid, 0);
    return !/^State:\s+Z/m.test(readFileSync(`/proc/${pid}/status`, 'utf8'));
  } catch {
    return false;
  }
};

describe('two workers on one port', { skip, timeout: 120_000 }, () => {
  const cluster = shared(async (t) => {
    const stores = await openSharedCluster(t);
    const program = await stores.start('workers', {
      settings: { ...workers, REFRESH_LIMITS: '5 per hour by ip', SHUTDOWN_DELAY: '500 ms' },
    });
    return { stores, program };
  });

  test('say once what they are, serve all that one does, and are shown as one', async (t) => {
    const { program } = cluster;
    await until(() => program.output().includes('security log'));
    assert.equal(program.output().match(/Listening on/g)?.length, 1);
    assert.match(program.output(), /^ +workers +2$/m);
    const { access } = await logIn(program);
    const asked = 60;
    const all = await Promise.all(
      Array.from({ length: asked }, (_, i) => program.ask('GET', '/protected', { bearer: access, from: `127.0.0.${2 + (i % 4)}` })),
    );
    assert.deepEqual([...new Set(all.map(({ status }) => status))], [200]);
    assertRefused(await speak(program, head('GET', '/healthz'), { plain: true }), 'https_required');
    assert.equal((await (await openHttp2(t, program))({ ':path': '/healthz' })).status, 200);

    await until(
      async () =>
        (await scrape(program)).value('portcullis_http_requests_total', { route: '/protected', method: 'GET', status: '200' }) === asked,
    );
    const found = await scrape(program);
    assert.equal(found.value('portcullis_http_request_duration_seconds_count', { route: '/protected', method: 'GET' }), asked);
    assert.equal(found.value('portcullis_logins_total', { outcome: 'success' }), 1);
    assert.deepEqual(
      ['portcullis_workers', 'portcullis_ready', 'portcullis_store_up', 'portcullis_redis_up', 'portcullis_build_info'].map(
        (name) => found.samples.find((one) => one.name === name)?.value,
      ),
      [2, 1, 1, 1, 1],
    );
    assert.equal(found.value('portcullis_keys', { state: 'active' }), 1);
    assert.equal(found.value('portcullis_connections_limit'), 2_000);
    const detail = await detailOf(program);
    assert.equal(detail.ready, true);
    assert.equal(detail.workers.length, 2);
  });

  test('a worker that is killed in mid-load: only its connections are cut, sessions and limits hold, no counter falls, another takes its place', async () => {
    const { program } = cluster;
    const { access } = await logIn(program);
    const ended = await logIn(program);
    assert.equal((await program.ask('POST', '/logout', { bearer: ended.access })).status, 200);
    for (let i = 0; i < 5; i++) await program.ask('POST', '/refresh', { bearer: 'x', from: '127.0.0.7' });
    const answered = async () =>
      (await scrape(program)).value('portcullis_http_requests_total', { route: '/protected', method: 'GET', status: '200' }) ?? 0;

    using end = abortedInTheEnd();
    const cut: unknown[] = [];
    let sent = 0;
    const lines = Array.from({ length: 16 }, async () => {
      const agent = new Agent({ keepAlive: true, maxSockets: 1 });
      while (!end.signal.aborted) {
        sent += 1;
        const status = await get(program, agent, access);
        if (status !== 200) cut.push(status);
      }
      agent.destroy();
    });
    await until(() => sent > 200);
    const [victim, survivor] = (await detailOf(program)).workers;
    assert.ok(victim && survivor && victim.connections + survivor.connections >= 16, 'each line has its connection');
    const before = await answered();
    process.kill(victim.pid, 'SIGKILL');
    const after = await answered();
    await until(async () => (await detailOf(program)).workers.filter(({ pid, ready }) => ready && pid !== victim.pid).length === 2);
    end.abort();
    await Promise.all(lines);

    assert.ok(cut.length <= victim.connections, `${cut.length} cut of ${victim.connections}: ${cut}`);
    assert.ok(before <= after && after <= (await answered()), 'no counter falls');
    assert.equal((await scrape(program)).value('portcullis_workers_replaced_total'), 1);
    assertRefused(await program.ask('GET', '/protected', { bearer: ended.access }), 'token_revoked');
    assertRefused(await program.ask('POST', '/refresh', { bearer: 'x', from: '127.0.0.7' }), 'rate_limited');
    assert.match(program.output(), /"worker":\d+,"why":"SIGKILL","pauseMs":\d+,"msg":"a worker has ended: another takes its place"/);

    // One that dies young again and again is waited for longer each time.
    for (let i = 0; i < 2; i++) {
      const pid = (await pidsOf(program)).find((one) => one !== survivor.pid) ?? 0;
      process.kill(pid, 'SIGKILL');
      await until(async () => (await pidsOf(program)).filter((one) => one !== pid).length === 2);
    }
    const [, second = 0, third = 0] = [...program.output().matchAll(/"pauseMs":(\d+)/g)].map(([, ms]) => Number(ms));
    assert.ok(second > 0 && third > second, `${second} ms, then ${third} ms`);
    assert.ok(isAlive(survivor.pid));
  });

  test('SIGHUP and SIGTERM reach them all under load: the renamed log is complete, each line whole, and no request is cut', async () => {
    const { program } = cluster;
    const log = join(program.folder, 'security.log');
    const linesIn = (file: string): any[] =>
      readFileSync(file, 'utf8')
        .trimEnd()
        .split('\n')
        .map((line) => JSON.parse(line));
    const isLogin = ({ act }: { act?: string }): boolean => act === 'login';
    const before = linesIn(log).filter(isLogin).length;
    const { device } = await logIn(program);
    using enough = abortedInTheEnd();
    let logins = 1;
    const wrong: unknown[] = [];
    const lines = Array.from({ length: 4 }, async () => {
      while (!enough.signal.aborted) {
        const { status } = await program.ask('POST', '/login', { json: { ...alice, device_token: device } });
        if (status === 200) logins += 1;
        else wrong.push(status);
      }
    });
    await until(() => logins > 20);
    renameSync(log, `${log}.1`);
    process.kill(program.pid, 'SIGHUP');
    await until(() => program.output().match(/"msg":"reloaded"/g)?.length === 2);
    const sofar = logins;
    await until(() => logins > sofar + 20);
    enough.abort();
    await Promise.all(lines);
    const stopped = program.stop();
    await wait(150);
    for (const from of ['127.0.0.2', '127.0.0.3', '127.0.0.4', '127.0.0.5'])
      assertRefused(await program.ask('GET', '/readyz', { from }), 'unavailable');
    assert.deepEqual([(await detailOf(program)).ready, (await scrape(program)).value('portcullis_ready')], [false, 0]);
    assert.equal(await stopped, 0);
    assert.deepEqual(wrong, []);
    const files = [linesIn(log), linesIn(`${log}.1`)];
    assert.ok(
      files.every((lines) => lines.some(isLogin)),
      'both have a part',
    );
    assert.equal(files.flat().filter(isLogin).length, before + logins);
    assert.equal(program.output().match(/Ended\./g)?.length, 1);
  });

  test('a mistake that only a worker finds is said once, and nobody is left; a shared port is taken; a parent that is killed leaves nobody behind', async () => {
    const { stores } = cluster;
    const program = await stores.start('others', { settings: workers });
    const serve = async (settings: Record<string, string>, says: RegExp): Promise<void> => {
      const all = { ...stores.settings, ...workers, DATA_DIR: join(program.folder, 'other'), PORT: '0', ...settings };
      const env = Object.fromEntries(Object.entries(all).map(([name, value]) => [`PORTCULLIS_${name}`, value]));
      const { code, stdout, stderr } = await runCommand(['serve'], { env });
      assert.deepEqual([code, stdout], [2, ''], stderr);
      assert.match(stderr.replaceAll(/^\{.*\}\n/gm, ''), says, stderr); // but for what it logs
    };
    const taken = /^Cannot start: port \d+ on 0\.0\.0\.0 is taken by another process: [^\n]*\n$/;
    await Promise.all([
      serve({ MASTER_SECRET: 'another secret, as long as the first one' }, /^Cannot start: PORTCULLIS_MASTER_SECRET [^\n]*\n$/),
      serve({ PORT: String(program.port) }, taken),
      serve({ PORT: String(program.port), WORKERS: '1' }, taken),
    ]);
    const pids = await pidsOf(program);
    assert.ok(pids.length === 2 && pids.every(isAlive));
    await program.stop('SIGKILL');
    await until(() => !pids.some(isAlive));
    await assert.rejects(program.ask('GET', '/healthz', { from: '127.0.0.2' }), { code: 'ECONNREFUSED' });
  });
});

test("a program of one's own is not started several times behind its back", async () => {
  const settings = {
    WORKERS: '2',
    DATABASE_URL: 'postgres://x@127.0.0.1:1/x',
    REDIS_URL: 'redis://127.0.0.1:1',
    ISSUER: 'https://localhost',
  };
  const more = { MASTER_SECRET: 'q3ZkT0v9yX7uB1nLw5cRj8sHd2fGm6aE4pKi', TLS_AT_PROXY: 'true', TRUSTED_PROXIES: '127.0.0.1' };
  const env = Object.fromEntries(Object.entries({ ...settings, ...more }).map(([name, value]) => [`PORTCULLIS_${name}`, value]));
  const refused = await startServer({ mode: 'serve', env, routes: () => {} });
  assert.ok('mistakes' in refused);
  assert.match(refused.mistakes.join('\n'), /^PORTCULLIS_WORKERS: workers know nothing of the code of your own: [^\n]*$/);
});

/** Its status, or what cut it. */
function get({ port, ca }: Program, agent: Agent, bearer: string): Promise<unknown> {
  return new Promise((resolve) => {
    const headers = { host: 'localhost', authorization: `Bearer ${bearer}` };
    request({ host: '127.0.0.1', servername: 'localhost', port, ca, agent, path: '/protected', headers }, (answer) => {
      answer
        .on('error', (error) => resolve(error.message))
        .on('end', () => resolve(answer.statusCode))
        .resume();
    })
      .on('error', (error) => resolve(error.message))
      .end();
  });
}

/** Also where the test fails: else what goes on until then would never end. */
function abortedInTheEnd(): AbortController & Disposable {
  const end = new AbortController();
  return Object.assign(end, { [Symbol.dispose]: () => end.abort() });
}
