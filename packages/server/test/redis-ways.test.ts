import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { join } from 'node:path';
import { suite, test, type TestContext } from 'node:test';
import { setTimeout as wait } from 'node:timers/promises';
import { promisify } from 'node:util';
import { parseLimits, redisLedger, rulesFor } from '@portcullis/guard';
import { openRedis, type RedisLink, type RedisLinkOptions } from '../src/storage/redis/redis-link.ts';
import { freePort } from '../../../test/support/free-port.ts';
import { startFaultProxy } from '../../../test/support/fault-proxy.ts';
import { without } from '../../../test/support/needs.ts';
import { forServers, makeAuthority } from '../../../test/support/pki.ts';
import { folderFor } from '../../../test/support/program.ts';
import { isRedisHere, type Redis, startRedis, startSentinels } from '../../../test/support/redis.ts';

const skip = without('Redis', isRedisHere);

suite('ways to one Redis', { skip }, () => {
  test('over TLS: of the right authority and the right name, and no other is spoken to', { timeout: 30_000 }, async (t) => {
    const folder = folderFor(t);
    const [ours, others] = [makeAuthority(join(folder, 'ours'), 'ours'), makeAuthority(join(folder, 'others'), 'others')];
    const start = async (extensions: string): Promise<Redis & { tlsPort: number }> => {
      const { certFile, keyFile } = ours.issue('redis', { extensions });
      const tlsPort = await freePort();
      const redis = await startRedis({
        'tls-port': String(tlsPort),
        'tls-cert-file': certFile,
        'tls-key-file': keyFile,
        'tls-ca-cert-file': ours.certFile,
        'tls-auth-clients': 'no',
      });
      t.after(redis.stop);
      return { ...redis, tlsPort };
    };
    const [right, other] = await Promise.all([start(forServers), start('extendedKeyUsage=serverAuth\nsubjectAltName=DNS:redis.example')]);

    for (const host of ['localhost', '127.0.0.1']) {
      const { link } = linked(t, { url: `rediss://${host}:${right.tlsPort}`, ca: ours.cert });
      await until(link.isUp);
      assert.equal(await link.command('SET', 'a', host), 'OK');
    }
    const refused = async (what: Partial<RedisLinkOptions> & { url: string }, why: RegExp): Promise<void> => {
      const { link, changes } = linked(t, what);
      await until(() => changes.length > 0);
      assert.match(changes.join(), why);
      await assert.rejects(link.command('SET', 'a', 'x'), { code: 'unavailable' });
    };
    await refused({ url: `rediss://localhost:${right.tlsPort}`, ca: others.cert }, /^down: .*(certificate|issuer)/);
    await refused({ url: `rediss://localhost:${right.tlsPort}` }, /^down: .*(certificate|issuer)/);
    await refused({ url: `rediss://localhost:${other.tlsPort}`, ca: ours.cert }, /^down: .*altnames/);
    await refused({ url: `rediss://localhost:${right.port}`, ca: ours.cert }, /^down: /);
    assert.deepEqual([await right.tell('get', 'a'), await other.tell('dbsize')], ['127.0.0.1', '0']);

    const program = `
      import { openRedis } from ${JSON.stringify(new URL('../src/storage/redis/redis-link.ts', import.meta.url).href)};
      openRedis({ url: 'rediss://localhost:${right.tlsPort}', timeoutMs: 2000, greet: async () => {},
        onChange(isUp, why) { console.log(isUp, why); process.exit(); } });`;
    const run = promisify(execFile);
    const { stdout } = await run(process.execPath, ['--input-type=module', '-e', program], {
      env: { ...process.env, NODE_EXTRA_CA_CERTS: ours.certFile },
    });
    assert.equal(stdout, 'true connected\n');
  });

  test('over a socket, to a numbered database, as a user with a password', async (t) => {
    const path = join(folderFor(t), 'redis.sock');
    const redis = await startRedis({ unixsocket: path });
    t.after(redis.stop);
    await redis.tell('acl', 'setuser', 'me', 'on', '>p@ss', '~*', '+@all');
    await redis.tell('config', 'set', 'requirepass', 'other');
    const set = async (value: string, what: { url: string; password?: string }): Promise<string> => {
      const { link, changes } = linked(t, what);
      await until(() => changes.length > 0);
      return link.isUp() ? String(await link.command('SET', 'a', value)) : changes.join();
    };
    assert.equal(await set('1', { url: `unix://me:p@ss@${path}?db=3` }), 'OK');
    assert.equal(await set('2', { url: `redis://me@127.0.0.1:${redis.port}/4`, password: 'p@ss' }), 'OK');
    assert.equal(await set('3', { url: redis.url, password: 'other' }), 'OK');
    assert.equal(await set('4', { url: `redis://:other@127.0.0.1:${redis.port}/5`, password: 'not looked at' }), 'OK');
    assert.match(await set('x', { url: redis.url }), /^down: .*NOAUTH/);
    assert.match(await set('x', { url: `unix://me:wrong@${path}` }), /^down: .*WRONGPASS/);
    assert.match(await set('x', { url: `unix://${path}.gone` }), /^down: .*ENOENT/);
    const { link } = linked(t, { url: redis.url, password: 'other' });
    await until(link.isUp);
    const got = [];
    for (const db of ['3', '4', '0', '5']) {
      await link.command('SELECT', db);
      got.push(await link.command('GET', 'a'));
    }
    assert.deepEqual(got, ['1', '2', '3', '4']);
  });

  test('what Redis says against one call is unavailable, told, and no reason to leave it', async (t) => {
    const redis = await startRedis();
    t.after(redis.stop);
    const odd: string[] = [];
    const { link, changes } = linked(t, { url: redis.url, onOdd: (why) => odd.push(why) });
    await until(link.isUp);
    for (let i = 0; i < 5; i++) await assert.rejects(link.run('return nothing(', ['k'], []), { code: 'unavailable', message: /ERR/ });
    await link.command('LPUSH', 'list', 'x');
    await assert.rejects(link.run("return redis.call('GET', KEYS[1])", ['list'], []), { code: 'unavailable', message: /WRONGTYPE/ });
    assert.equal(await link.command('PING'), 'PONG');
    assert.deepEqual([odd.length, changes], [6, ['up']]);
  });

  test("somebody else's values under the keys of counters: unavailable, told, and they stay as they are", async (t) => {
    const redis = await startRedis();
    t.after(redis.stop);
    const odd: string[] = [];
    const { link } = linked(t, { url: redis.url, onOdd: (why) => odd.push(why) });
    await until(link.isUp);
    const ledger = redisLedger({ run: link.run, prefix: 't', onOdd: (why) => odd.push(why) });
    const [rule] = rulesFor({ method: 'GET', path: '/notes' }, parseLimits('3 per minute by ip'));
    assert.ok(rule);
    const charges = [{ rule, who: '127.0.0.1' }];
    const ask = () => ledger.takeFor('ses_1', charges, []);
    await ledger.claim('g', 1);
    assert.equal((await ask()).verdict.allowed, true);
    const counter = await redis.tell('keys', 't:limit:*');
    const generations = (await redis.tell('keys', 't:generation:*')).split('\n') as [string];

    const packed = ['5', "'text'", "{ 'a', 'b' }", "{ 9e15, 'b' }", '{ { 1 }, 2 }', '{ math.huge, 9 }', 'true'];
    const plants = [
      "'LPUSH', KEYS[1], 'x'",
      "'HSET', KEYS[1], 'x', 'y'",
      "'SET', KEYS[1], 'not packed'",
      ...packed.map((value) => `'SET', KEYS[1], cmsgpack.pack(${value})`),
    ];
    for (const plant of plants) {
      for (const key of plant.startsWith("'SET'") ? [counter] : [counter, generations[0]]) {
        await redis.tell('del', key);
        await redis.tell('eval', `return redis.call(${plant})`, '1', key);
        const before = await redis.tell('dump', key);
        const told = odd.length;
        if (key === counter) await assert.rejects(ask(), { code: 'unavailable' }, plant);
        else
          await assert.rejects(Promise.all(Array.from({ length: 1_000 }, () => ledger.takeFor(`ses_${crypto.randomUUID()}`, [], []))), {
            code: 'unavailable',
          });
        assert.ok(odd.length > told, plant);
        assert.equal(await redis.tell('dump', key), before, plant);
      }
      await redis.tell('del', counter, generations[0]);
      await ledger.claim('g', 1);
      assert.equal((await ask()).verdict.allowed, true);
    }
    assert.equal(link.isUp(), true);
  });

  test('what is asked in one turn goes out in one packet', async (t) => {
    const redis = await startRedis();
    t.after(redis.stop);
    const { link } = linked(t, { url: redis.url, waitReplicas: 0 });
    await until(link.isUp);
    const reads = async (): Promise<number> => Number(/total_reads_processed:(\d+)/.exec(String(await link.command('INFO', 'stats')))?.[1]);
    const before = await reads();
    await Promise.all(Array.from({ length: 100 }, (_, i) => link.run('return ARGV[1]', [`k${i}`], ['x'.repeat(50)])));
    assert.ok((await reads()) - before <= 4, 'one for the scripts, one for those sent again after NOSCRIPT, one for INFO');
  });
});

suite('replicas', { skip }, () => {
  const keep = (link: RedisLink, key: string) => link.keep("return redis.call('SET', KEYS[1], '1')", [key], []);

  test('a second connection that leads to another server confirms nothing', { timeout: 30_000 }, async (t) => {
    const [here, there] = [await startRedis(), await startRedis()];
    for (const redis of [here, there]) t.after(redis.stop);
    const proxy = await startFaultProxy(t, here.port);
    const { link } = linked(t, { url: `redis://127.0.0.1:${proxy.port}` });
    await until(() => keep(link, 'before').then(Boolean, () => false));
    await link.command('PING');
    proxy.aim(there.port); // a name or a balancer that leads elsewhere, for connections that are new
    for (const line of (await here.tell('client', 'list')).split('\n'))
      if (!/ cmd=(ping|client)/.test(line)) await here.tell('client', 'kill', 'id', /id=(\d+)/.exec(line)?.[1] ?? '');
    let confirmed = 0;
    for (let i = 0; confirmed < 5; i++) {
      assert.ok(i < 500, 'it is of one mind in the end');
      if (!(await keep(link, `k${i}`).then(Boolean, () => false))) await wait(20);
      else {
        confirmed += 1;
        assert.equal(await link.command('EXISTS', `k${i}`), 1, 'what is confirmed is where it is asked for');
      }
    }
  });

  test('what is kept is with a replica too, when there is one; else it is not confirmed', { timeout: 30_000 }, async (t) => {
    const redis = await startRedis({ 'repl-diskless-sync-delay': '0' });
    t.after(redis.stop);
    const [auto, none, two] = [undefined, 0, 2].map((waitReplicas) => linked(t, { url: redis.url, waitReplicas }).link) as [
      RedisLink,
      RedisLink,
      RedisLink,
    ];
    await until(() => [auto, none, two].every(({ isUp }) => isUp()));
    for (const link of [auto, none, two]) await until(() => keep(link, 'x').then(Boolean, (error) => !error.message.endsWith('away')));
    assert.equal(await keep(auto, 'alone'), 'OK');
    assert.equal(await keep(none, 'alone'), 'OK');
    await assert.rejects(keep(two, 'alone'), { code: 'unavailable', message: /of 2 replicas, 0/ });

    const replica = await startRedis({ replicaof: `127.0.0.1 ${redis.port}` });
    t.after(replica.stop);
    await until(async () => (await redis.tell('role')).includes(String(replica.port)));
    await until(() => keep(auto, 'first').then(Boolean, () => false)); // it is there, and may still be loading
    await Promise.all(Array.from({ length: 50 }, (_, i) => keep(auto, `k${i}`)));
    assert.equal(await replica.tell('exists', ...Array.from({ length: 50 }, (_, i) => `k${i}`)), '50');

    replica.freeze();
    const kept = assert.rejects(keep(auto, 'late'), { code: 'unavailable', message: /of 1 replicas, 0/ });
    assert.equal(await keep(none, 'late'), 'OK');
    assert.equal(await auto.command('PING'), 'PONG', 'nothing else waits for the replica');
    await kept;
    replica.thaw();
    await until(() =>
      keep(auto, 'again').then(
        () => true,
        () => false,
      ),
    );
    assert.equal(await replica.tell('exists', 'late', 'again'), '2');
    assert.equal(auto.isUp(), true);
  });
});

suite('sentinels', { skip }, () => {
  test('the link goes to the master they name, follows a failover, and writes to the old one no more', { timeout: 60_000 }, async (t) => {
    const { url, nodes, sentinels, stop } = await startSentinels();
    t.after(stop);
    const [first, second] = nodes as [Redis, Redis];
    await sentinels[2]?.kill(); // two are of one mind without it
    const { link, changes } = linked(t, { url, greet: async (command) => void (await command('SET', 'greeted', '1')) });
    await until(link.isUp);
    assert.equal(await link.command('SET', 'a', '1'), 'OK');
    assert.equal(await first.tell('get', 'a'), '1');

    await sentinels[0]?.tell('sentinel', 'failover', 'mymaster');
    const names = async (port: number): Promise<boolean> =>
      (await sentinels[0]!.tell('sentinel', 'get-master-addr-by-name', 'mymaster')).includes(String(port));
    await until(() => names(second.port));
    // The old one is a master still, in its own eyes: sentinels wait some seconds before they tell it.
    await first.tell('replicaof', 'no', 'one');
    await until(() => changes.join() === `up,down: the sentinels name 127.0.0.1:${second.port} in place of 127.0.0.1:${first.port},up`);
    for (let i = 0; i < 20; i++) await link.command('INCR', 'after');
    assert.deepEqual([await second.tell('get', 'after'), await first.tell('exists', 'after')], ['20', '0']);

    await first.tell('replicaof', '127.0.0.1', String(second.port));
    await until(async () => (await second.tell('role')).includes(String(first.port)));
    await until(async () => /num-slaves\n1\n/.test(await sentinels[0]!.tell('sentinel', 'master', 'mymaster')));
    await second.kill();
    await until(
      () =>
        link.command('INCR', 'after').then(
          () => true,
          () => false,
        ),
      30_000,
    );
    assert.equal(await first.tell('get', 'after'), '21');
    const { link: other, changes: said } = linked(t, { url: url.replace('/mymaster', '/nobody') });
    await until(() => said.length > 0);
    assert.match(said.join(), /no sentinel knows the master of nobody/);
    assert.equal(other.isUp(), false);
  });
});

function linked(t: TestContext, more: Partial<RedisLinkOptions> & { url: string }): { link: RedisLink; changes: string[] } {
  const changes: string[] = [];
  const link = openRedis({
    timeoutMs: 1_500, // nobody hangs here, and the machine may be busy
    greet: async () => {},
    onChange: (isUp, why) => changes.push(isUp ? 'up' : `down: ${why}`),
    ...more,
  });
  t.after(link.close);
  return { link, changes };
}

async function until(isSo: () => boolean | Promise<boolean>, ms = 10_000): Promise<void> {
  const end = Date.now() + ms;
  while (!(await isSo())) {
    assert.ok(Date.now() < end, `not within ${ms} ms`);
    await wait(10);
  }
}
