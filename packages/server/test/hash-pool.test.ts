import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { argon2Sync } from 'node:crypto';
import { once } from 'node:events';
import { after, test } from 'node:test';
import { setImmediate as nextTurn } from 'node:timers/promises';
import { promisify } from 'node:util';
import type { Worker } from 'node:worker_threads';
import { Problem } from '@portcullis/guard';
import { hashPool } from '../src/lib/hash-pool.ts';

const passwords = [
  '',
  ' ',
  ' leading and trailing ',
  'p\0q',
  '\0',
  'Ünïcödé',
  'e\u0301',
  '\u00e9',
  '🔑'.repeat(256),
  'long '.repeat(2_000),
];

/** Node tells of every worker it starts: so a test can lay hands on a real one. */
const born: Worker[] = [];
const onWorker = (worker: Worker) => born.push(worker);
process.on('worker', onWorker);
after(() => process.off('worker', onWorker));

test("a stored password is argon2id with today's parameters over exactly its UTF-8 bytes, as node:crypto computes it", async () => {
  await using pool = disposable();
  for (const password of passwords) {
    const phc = await pool.hash(password);
    const [, , , , salt, tag] = phc.split('$');
    assert.ok(phc.startsWith('$argon2id$v=19$m=19456,t=2,p=1$'));
    assert.equal(Buffer.from(salt!, 'base64').length, 16);
    assert.equal(Buffer.from(tag!, 'base64').toString('hex'), nodesTag(password, Buffer.from(salt!, 'base64')).toString('hex'));
  }
  assert.notEqual(await pool.hash('same'), await pool.hash('same'), 'each has a salt of its own');
});

test('a password verifies against what node:crypto computed, and no other does', async () => {
  await using pool = disposable();
  for (const password of passwords) assert.equal(await pool.verify(password, nodesPhc(password)), true, JSON.stringify(password));

  const near: [string, string][] = [
    ['p', 'p\0'],
    ['p\0', 'p'],
    ['p ', 'p'],
    ['P', 'p'],
    ['e\u0301', '\u00e9'],
    ['a'.repeat(73), 'a'.repeat(72)],
  ];
  for (const [stored, tried] of near) assert.equal(await pool.verify(tried, nodesPhc(stored)), false, JSON.stringify(tried));
});

test('right, wrong and nobody cost one hash each, and nobody is never let in', async () => {
  await using pool = disposable();
  const phc = nodesPhc('right');
  for (const [password, stored, fits] of [
    ['right', phc, true],
    ['wrong', phc, false],
    ['right', undefined, false],
    ['', undefined, false],
  ] as const) {
    const before = pool.done().hashes;
    assert.equal(await pool.verify(password, stored), fits);
    assert.equal(pool.done().hashes - before, 1);
  }
});

test('a stored hash that cannot be read is a fault of ours, not a wrong password, and its error tells no password', async () => {
  await using pool = disposable();
  const phc = nodesPhc('secret words');
  for (const broken of ['', 'secret words', phc.slice(0, -1), phc.slice(0, 40), phc.replace('argon2id', 'scrypt')]) {
    await assert.rejects(
      pool.verify('secret words', broken),
      (error: Error) => !(error instanceof Problem) && !/secret/.test(String(error.stack)),
    );
  }
  assert.equal(pool.done().hashes, 0);
  assert.equal(await pool.verify('secret words', phc), true, 'the thread serves on');
});

test('64 wait, in order; the next is refused at once and those who wait are not touched', async () => {
  const pool = hashPool({ threads: 1 });
  const order: number[] = [];
  const asked = Array.from({ length: 65 }, (_, at) => pool.hash('word').then(() => order.push(at)));
  const outcomes = Promise.allSettled(asked);
  assert.equal(pool.waiting(), 64);
  await assert.rejects(pool.hash('word'), busy(1));
  assert.equal(pool.waiting(), 64);

  await asked[3];
  assert.deepEqual(order, [0, 1, 2, 3]);
  await pool.close();
  await outcomes;
});

test('whoever has waited two seconds is refused; the hash under way is not', async (t) => {
  t.mock.timers.enable({ apis: ['setTimeout'] });
  await using pool = disposable();
  const first = pool.hash('word');
  const second = pool.hash('word');
  t.mock.timers.tick(1_999);
  assert.equal(pool.waiting(), 1);
  t.mock.timers.tick(1);
  assert.equal(pool.waiting(), 0);
  await assert.rejects(second, busy(2));
  await first;
  assert.equal(pool.done().hashes, 1);
});

test('a caller who goes leaves the queue, and nothing is hashed for him', async () => {
  await using pool = disposable();
  const gone = new AbortController();
  const first = pool.hash('word');
  const second = pool.hash('word', gone.signal);
  const third = pool.verify('word', undefined);
  gone.abort();
  assert.equal(pool.waiting(), 1);
  await assert.rejects(second, { name: 'AbortError' });
  await assert.rejects(pool.hash('word', gone.signal), { name: 'AbortError' });
  await Promise.all([first, third]);
  assert.equal(pool.done().hashes, 2);
});

test('a worker that dies at work fails its job alone, and the next in line gets a new one', async () => {
  await using pool = disposable();
  await pool.hash('warm');
  const first = pool.hash('word');
  const second = pool.hash('word');
  void born.at(-1)!.terminate();
  await assert.rejects(first, busy(1));
  assert.match(await second, /^\$argon2id\$/);
  assert.equal(pool.done().hashes, 2);
});

test('a worker that dies idle is not missed', async () => {
  await using pool = disposable();
  await pool.hash('warm');
  await born.at(-1)!.terminate();
  assert.match(await pool.hash('word'), /^\$argon2id\$/);
});

test('closing refuses whoever waits, whoever comes later, and ends the threads', async () => {
  const pool = hashPool({ threads: 2 });
  const outcomes = Promise.allSettled([1, 2, 3, 4].map(() => pool.hash('word')));
  await nextTurn();
  const ended = born.slice(-2).map((thread) => once(thread, 'exit'));
  await pool.close();
  await Promise.all(ended);
  for (const outcome of await outcomes) assert.ok(outcome.status === 'rejected' && busy(1)(outcome.reason));
  await assert.rejects(pool.verify('word', undefined), busy(1));
  assert.deepEqual([pool.waiting(), pool.done().hashes], [0, 0]);
});

test('a process ends by itself beside an idle pool, but not before its hash is done', async () => {
  const script = `import { hashPool } from ${JSON.stringify(import.meta.resolve('../src/lib/hash-pool.ts'))};
    console.log(await hashPool({ threads: 2 }).hash('word'));`;
  const { stdout } = await promisify(execFile)(process.execPath, ['--input-type=module', '-e', script], { timeout: 20_000 });
  assert.match(stdout, /^\$argon2id\$/);
});

/** One thread, closed at the end of the test's block. */
function disposable() {
  const pool = hashPool({ threads: 1 });
  return { ...pool, [Symbol.asyncDispose]: () => pool.close() };
}

function busy(retryAfterS: number) {
  return (error: unknown) => error instanceof Problem && error.code === 'server_busy' && error.extra.retryAfterS === retryAfterS;
}

function nodesTag(password: string, nonce: Buffer): Buffer {
  return argon2Sync('argon2id', { message: password, nonce, parallelism: 1, tagLength: 32, memory: 19_456, passes: 2 });
}

function nodesPhc(password: string): string {
  const salt = Buffer.from('a salt of 16 by.');
  const base64 = (bytes: Buffer) => bytes.toString('base64').replace(/=+$/, '');
  return `$argon2id$v=19$m=19456,t=2,p=1$${base64(salt)}$${base64(nodesTag(password, salt))}`;
}
