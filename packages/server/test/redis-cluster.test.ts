import assert from 'node:assert/strict';
import { after, before, suite, test } from 'node:test';
import { setTimeout as wait } from 'node:timers/promises';
import { type Charge, parseLimits, redisLedger, type RedisLedger, rulesFor } from '@portcullis/guard';
import { openRedis, type RedisLink } from '../src/storage/redis/redis-link.ts';
import { slotOf } from '../src/storage/redis/slot.ts';
import { countersConformance } from '../../guard/src/counters-conformance.ts';
import { ledgerConformance } from '../../../test/support/ledger-conformance.ts';
import { without } from '../../../test/support/needs.ts';
import { isRedisHere, type Redis, type RedisCluster, startRedisCluster } from '../../../test/support/redis.ts';

test('the slot of a key is that of its tag', () => {
  assert.equal(slotOf('123456789'), 0x31c3);
  assert.equal(slotOf('{user1000}.following'), slotOf('{user1000}.followers'));
  assert.equal(slotOf('foo{}{bar}'), slotOf('foo{}{bar}'));
  assert.notEqual(slotOf('foo{}{bar}'), slotOf('bar'));
  assert.equal(slotOf('foo{{bar}}zap'), slotOf('{bar'));
  assert.equal(slotOf('foo{bar}{zap}'), slotOf('bar'));
});

suite('Redis Cluster', { skip: without('Redis', isRedisHere) }, () => {
  let cluster: RedisCluster;
  let link: RedisLink;
  const changes: string[] = [];
  before(async () => {
    cluster = await startRedisCluster(3, 1);
    link = openRedis({
      url: cluster.url,
      timeoutMs: 2_000,
      greet: async (command, near) => void (await command('SET', near('greeted'), '1', 'PX', '1000')),
      onChange: (isUp, why) => changes.push(isUp ? 'up' : `down: ${why}`),
    });
    await until(link.isUp);
  });
  after(async () => {
    link.close();
    await cluster.stop();
  });

  let nth = 0;
  const make = (more: { now?: () => number } = {}) =>
    redisLedger({
      run: (...script) => link.run(...script),
      keep: (...script) => link.keep(...script),
      prefix: `t${nth++}`,
      isCluster: true,
      ...more,
    });
  const forget = () => Promise.all(cluster.nodes.map((node) => node.tell('flushall')));
  const rule = (text: string) => rulesFor({ method: 'GET', path: '/notes' }, parseLimits(text))[0]!;

  countersConformance('counters in a cluster', (clock) => make({ now: clock.now }));
  ledgerConformance('a ledger in a cluster', { make, forget });

  test('a key goes to where the cluster has it', async () => {
    assert.deepEqual(changes, ['up']);
    for (const key of ['', 'a', '{a', 'a}', '{}a', 'a{b}c', 'ü{ß}€', '\u0000{\u0001}']) {
      assert.equal(await link.command('CLUSTER', 'KEYSLOT', key), slotOf(key), JSON.stringify(key));
    }
    for (let i = 0; i < 30; i++) assert.equal(await link.command('SET', `key ${i}`, String(i)), 'OK');
    const sizes = await Promise.all(cluster.nodes.map(async (node) => Number(await node.tell('dbsize'))));
    assert.ok(sizes.slice(0, 3).every((size) => size > 0) && sizes[3] === 0, String(sizes));
    const odd = link.run('return {KEYS[1], KEYS[2]}', ['a', 'b'], []);
    await assert.rejects(odd, { code: 'unavailable', message: /CROSSSLOT/ });
  });

  test('a slot that moves while its counter counts, to a node that had none: not one is lost, not one too many', async () => {
    const ledger = make();
    const charges = [
      { rule: rule('200 per hour'), who: 'mover' },
      { rule: rule('1000 per hour'), who: 'mover' },
      { rule: rule('300 per hour'), who: 'stayer' },
    ];
    await ledger.take(charges.slice(0, 2));
    const counters = async (node: Redis) => (await node.tell('keys', `t${nth - 1}:limit:*`)).split('\n').filter(Boolean);
    const found = await Promise.all(cluster.nodes.map(async (node) => ({ from: node, keys: await counters(node) })));
    const { from, keys } = found.find(({ keys }) => keys.length === 2)!;
    const [to, [key = '', other = '']] = [cluster.nodes[3]!, keys];
    const slot = String(slotOf(key));
    const [fromId, toId] = await Promise.all([from.tell('cluster', 'myid'), to.tell('cluster', 'myid')]);

    let admitted = 1;
    const counts = new AbortController();
    const counting = (async () => {
      while (!counts.signal.aborted) if ((await ledger.take(charges)).allowed) admitted += 1;
    })();
    await to.tell('cluster', 'setslot', slot, 'importing', fromId);
    await from.tell('cluster', 'setslot', slot, 'migrating', toId);
    await wait(30);
    for (const one of [key, other]) {
      await from.tell('migrate', '127.0.0.1', String(to.port), one, '0', '1000');
      await wait(30); // what asks for both waits for the other one
    }
    for (const node of [to, from]) await node.tell('cluster', 'setslot', slot, 'node', toId);
    await wait(100);
    counts.abort();
    await counting;
    while ((await ledger.take(charges)).allowed) admitted += 1;
    assert.equal(admitted, 200);
    assert.deepEqual((await counters(to)).toSorted(), keys.toSorted());
    assert.deepEqual([await sum(ledger, charges[0]!), await sum(ledger, charges[1]!), await sum(ledger, charges[2]!)], [200, 200, 199]);
    assert.equal(link.isUp(), true);
  });

  test(
    'a node that is away: its counters are, others count on, and what was counted beside it is given back',
    { timeout: 30_000 },
    async () => {
      const ledger = make();
      const owners: Charge[][] = [[], [], [], []];
      const ports = cluster.nodes.map(({ port }) => port);
      const all = Array.from({ length: 60 }, (_, i): Charge => ({ rule: rule('5 per hour'), who: `w${i}` }));
      for (const charge of all) {
        await ledger.take([charge]);
        for (const [i, node] of cluster.nodes.entries()) {
          if ((await node.tell('keys', `t${nth - 1}:limit:*`)).split('\n').filter(Boolean).length > owners[i]!.length)
            owners[i]!.push(charge);
        }
      }
      const [lost, kept] = [owners[0]![0]!, owners[1]![0]!];
      const dead: Redis = cluster.nodes[0]!;
      await dead.kill();
      await until(() => !link.isUp());
      assert.match(changes.at(-1) ?? '', new RegExp(`^down: 127.0.0.1:${ports[0]}: `));
      for (let i = 0; i < 3; i++) await assert.rejects(async () => ledger.take([lost, kept]), { code: 'unavailable' });
      assert.deepEqual(remaining(await ledger.take([kept])), 3, 'none of the three counts');
      await dead.start();
      await until(link.isUp);
      await until(async () => (await Promise.allSettled([ledger.take([lost, kept])]))[0].status === 'fulfilled');
      assert.equal(remaining(await ledger.peek([kept])), 2);
    },
  );
});

const sum = async (ledger: RedisLedger, charge: Charge): Promise<number> =>
  charge.rule.limit.max - (remaining(await ledger.peek([charge])) ?? 0);

const remaining = (verdict: Awaited<ReturnType<ReturnType<typeof redisLedger>['peek']>>): number | undefined =>
  verdict.allowed ? verdict.tightest?.remaining : 0;

async function until(isSo: () => boolean | Promise<boolean>): Promise<void> {
  for (let i = 0; !(await isSo()); i++) {
    assert.ok(i < 1_000, 'not within ten seconds');
    await wait(10);
  }
}
