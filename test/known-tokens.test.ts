import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import { setTimeout as wait } from 'node:timers/promises';
import { alice, openSharedCluster } from './support/cluster.ts';
import { without } from './support/needs.ts';
import { isPostgresHere } from './support/postgres.ts';
import { logIn, type Program, shared, sharedProgram, until, wideLimits } from './support/program.ts';
import { isRedisHere } from './support/redis.ts';
import { assertRefused } from './support/refusal.ts';
import { scrape } from './support/scrape.ts';

// A token that its issuer knows by its whole text is believed without its signature being checked. Here is what that does not change.

const admin = { ADMIN_LISTEN: '127.0.0.1:0' };

describe('a token that this server has minted', () => {
  const program = sharedProgram({ ...wideLimits, ...admin });

  test('is known at its first use; changed in its signature alone it is not, nor does it harm the good one', async () => {
    const { access } = await logIn(program);
    const before = await believed(program);
    assert.equal((await program.ask('GET', '/protected', { bearer: access })).status, 200);
    assert.deepEqual(await since(program, before), { verified: 0, known: 0 });
    for (const forged of forgeries(access)) assertRefused(await program.ask('GET', '/protected', { bearer: forged }), 'token_invalid');
    assert.equal((await program.ask('GET', '/protected', { bearer: access })).status, 200);
    assert.deepEqual(await since(program, before), { verified: 0, known: 0 });
  });

  test('is refused after its logout', async () => {
    const { access } = await logIn(program);
    assert.equal((await program.ask('POST', '/logout', { bearer: access })).status, 200);
    assertRefused(await program.ask('GET', '/protected', { bearer: access }), 'token_revoked');
  });
});

const skip = without('PostgreSQL', isPostgresHere) || without('Redis', isRedisHere);

describe('a token that another instance has minted', { skip }, () => {
  const house = shared(async (t) => {
    const cluster = await openSharedCluster(t, admin);
    const [one, other] = await Promise.all([cluster.start('one'), cluster.start('other')]);
    for (const program of [one, other]) await until(() => program.output().includes('sessions are asked of Redis'));
    const tokenAt = async (program: Program) => (await logIn(program, alice)).access;
    return { ...cluster, one, other, tokenAt };
  });

  test('is known by the mark that Redis keeps of it, and from then on remembered', async () => {
    const { one, other, tokenAt } = house;
    const access = await tokenAt(one);
    const before = await believed(other);
    for (let i = 0; i < 3; i++) assert.equal((await other.ask('GET', '/protected', { bearer: access })).status, 200);
    assert.deepEqual(await since(other, before), { verified: 0, known: 1 });
  });

  test('changed in one character, of the signature too, it is not', async () => {
    const { one, other, tokenAt } = house;
    const access = await tokenAt(one);
    const before = await believed(other);
    for (const forged of forgeries(access)) assertRefused(await other.ask('GET', '/protected', { bearer: forged }), 'token_invalid');
    assert.deepEqual(await since(other, before), { verified: 0, known: 0 });
  });

  test('a forged one is charged to nobody but the address that sent it', async () => {
    const { settings, start } = house;
    const limited = await start('limited', { settings: { ...settings, PROTECTED_LIMITS: '3 per hour by caller; 1000 per hour by ip' } });
    await until(() => limited.output().includes('sessions are asked of Redis'));
    const access = await house.tokenAt(house.one);
    for (const forged of forgeries(access)) assertRefused(await limited.ask('GET', '/protected', { bearer: forged }), 'token_invalid');
    for (let i = 0; i < 3; i++) assert.equal((await limited.ask('GET', '/protected', { bearer: access })).status, 200);
    assertRefused(await limited.ask('GET', '/protected', { bearer: access }), 'rate_limited');
    await limited.stop();
  });

  test('after its logout it is refused at its first use here, as at any other', async () => {
    const { one, other, tokenAt } = house;
    const [fresh, used] = [await tokenAt(one), await tokenAt(one)];
    assert.equal((await other.ask('GET', '/protected', { bearer: used })).status, 200);
    for (const bearer of [fresh, used]) {
      assert.equal((await one.ask('POST', '/logout', { bearer })).status, 200);
      assertRefused(await other.ask('GET', '/protected', { bearer }), 'token_revoked');
    }
  });

  test('only the last token of a session is known; the one before is verified, and as good', async () => {
    const { one, other } = house;
    const { json } = await one.ask('POST', '/login', { json: alice });
    const next = await one.ask('POST', '/refresh', { bearer: json.refresh_token });
    const before = await believed(other);
    for (const bearer of [json.access_token, next.json.access_token])
      assert.equal((await other.ask('GET', '/protected', { bearer })).status, 200);
    const { verified, known } = await since(other, before);
    assert.deepEqual({ verified, known }, { verified: 1, known: 1 });
  });

  test('who hears all that Redis is asked, and may write there, has no token of his own believed', async () => {
    const { one, other, redis, tokenAt } = house;
    const [header, claims = ''] = (await tokenAt(one)).split('.');
    const wished = { ...JSON.parse(Buffer.from(claims, 'base64url').toString()), username: 'root', exp: 253_402_300_799 };
    const forged = [header, Buffer.from(JSON.stringify(wished)).toString('base64url'), 'AAAA'].join('.');
    const monitor = spawn('redis-cli', ['-p', String(redis.port), 'monitor'], { stdio: ['ignore', 'pipe', 'ignore'] });
    let heard = '';
    monitor.stdout.on('data', (chunk) => {
      heard += chunk;
    });
    await until(() => heard.includes('OK'));
    assertRefused(await other.ask('GET', '/protected', { bearer: forged }), 'token_invalid');
    await until(() => heard.includes(':token:'));
    monitor.kill();
    await once(monitor, 'close');
    const line = heard.split('\n').find((one) => one.includes(':token:')) ?? '';
    const words = [...line.matchAll(/"([^"]*)"/g)].map(([, word = '']) => word);
    const place = words.find((word) => word.includes(':token:')) ?? '';
    const asked = words.filter((word) => /^[\w-]{8,43}$/.test(word));
    assert.ok(asked.length > 0, line);
    const before = await believed(other);
    for (const word of asked)
      for (const mark of [word, word.padEnd(43, 'A'), word + word.slice(0, 27)]) {
        await redis.tell('set', place, mark);
        assertRefused(await other.ask('GET', '/protected', { bearer: forged }), 'token_invalid');
      }
    assert.deepEqual(await since(other, before), { verified: 0, known: 0 });
    await redis.tell('del', place);
  });

  test('a refusal names him who is known, at his first request here', async () => {
    const { settings, start, one, tokenAt } = house;
    const limited = await start('named', { settings: { ...settings, PROTECTED_LIMITS: '1 per hour by caller; 1000 per hour by ip' } });
    await until(() => limited.output().includes('sessions are asked of Redis'));
    const [first, second] = [await tokenAt(one), await tokenAt(one)];
    assert.equal((await limited.ask('GET', '/protected', { bearer: first })).status, 200);
    assertRefused(await limited.ask('GET', '/protected', { bearer: second }), 'rate_limited');
    const log = () => readFileSync(join(limited.folder, 'security.log'), 'utf8');
    await until(() => log().includes('rate_limited'));
    const { sid } = JSON.parse(Buffer.from(second.split('.')[1] ?? '', 'base64url').toString());
    assert.ok(
      log()
        .split('\n')
        .some((line) => line.includes('rate_limited') && line.includes(sid)),
    );
    await limited.stop();
  });

  test('what somebody else has written where marks are makes no token known, and refuses no good one', async () => {
    const { one, other, redis, tokenAt } = house;
    const [access, another] = [await tokenAt(one), await tokenAt(one)];
    await until(async () => (await markKeys()).length >= 2);
    const keys = await markKeys();
    const marks = await Promise.all(keys.map((key) => redis.tell('get', key)));
    for (const [i, key] of keys.entries()) await redis.tell('set', key, marks[(i + 1) % marks.length] ?? ''); // each its neighbour's
    const before = await believed(other);
    for (const bearer of [access, another]) assert.equal((await other.ask('GET', '/protected', { bearer })).status, 200);
    for (const forged of forgeries(access)) assertRefused(await other.ask('GET', '/protected', { bearer: forged }), 'token_invalid');
    assert.deepEqual(await since(other, before), { verified: 2, known: 0 });
    for (const mark of marks) assert.ok(!access.includes(mark) && mark.length === 43, 'nothing of a token is in it');

    async function markKeys(): Promise<string[]> {
      return (await redis.tell('keys', 'portcullis:*:token:*')).split(/[\s,]+/).filter(Boolean);
    }
  });

  test('of a compromised key it is not believed, at its first use or later', async () => {
    const { one, other, run, tokenAt } = house;
    const [fresh, used] = [await tokenAt(one), await tokenAt(one)];
    assert.equal((await other.ask('GET', '/protected', { bearer: used })).status, 200);
    const keys: { kid: string; state: string }[] = await run('keys', 'list');
    await run('keys', 'compromise', '--yes', '--', keys.find(({ state }) => state === 'active')?.kid ?? '');
    for (const bearer of [fresh, used]) assertRefused(await other.ask('GET', '/protected', { bearer }), 'token_key_gone');
  });

  // It seals the keys anew under its own, so the command line of before has no more to say here.
  test('an instance with another master secret knows none of them, and verifies', async () => {
    const { one, settings, start, tokenAt } = house;
    const another = 'Zp4sVt7wQx2mKb9nHc6rLf3jGd8yTe5u';
    const rotating = await start('rotating', {
      settings: { ...settings, MASTER_SECRET: another, MASTER_SECRET_PREVIOUS: settings.MASTER_SECRET ?? '' },
    });
    await until(() => rotating.output().includes('sessions are asked of Redis'));
    const access = await tokenAt(one);
    const before = await believed(rotating);
    assert.equal((await rotating.ask('GET', '/protected', { bearer: access })).status, 200);
    const { verified, known } = await since(rotating, before);
    assert.deepEqual({ verified, known }, { verified: 1, known: 0 });
    await rotating.stop();
  });

  test('it ends when it ends, known or not', async (t) => {
    const cluster = await openSharedCluster(t, { ...admin, ACCESS_TOKEN_TTL: '10 s' });
    const [one, other] = await Promise.all([cluster.start('one'), cluster.start('other')]);
    const [fresh, used] = [(await logIn(one, alice)).access, (await logIn(one, alice)).access];
    assert.equal((await other.ask('GET', '/protected', { bearer: used })).status, 200);
    const { exp } = JSON.parse(Buffer.from(used.split('.')[1] ?? '', 'base64url').toString());
    await wait(Math.max(0, exp * 1_000 - Date.now() + 50));
    for (const bearer of [fresh, used]) assertRefused(await other.ask('GET', '/protected', { bearer }), 'token_expired');
  });
});

type Believed = { verified: number; known: number };

async function believed(program: Program): Promise<Believed> {
  const { samples } = await scrape(program);
  const of = (how: string) =>
    samples.find(({ name, labels }) => name === 'portcullis_access_tokens_total' && labels.how === how)?.value ?? NaN;
  return { verified: of('verified'), known: of('known') };
}

async function since(program: Program, before: Believed): Promise<Believed> {
  const now = await believed(program);
  return { verified: now.verified - before.verified, known: now.known - before.known };
}

/** The same token but for one character, in its payload, and in its signature at both ends; and another signature of the same length. */
function forgeries(token: string): string[] {
  const swapped = (at: number): string => `${token.slice(0, at)}${token[at] === 'A' ? 'B' : 'A'}${token.slice(at + 1)}`;
  const signatureAt = token.lastIndexOf('.') + 1;
  const inClaims = Buffer.from(token.split('.')[1] ?? '', 'base64url')
    .toString()
    .replace('portcullis', 'portcullas');
  const changed = [token.split('.')[0], Buffer.from(inClaims).toString('base64url'), token.slice(signatureAt)].join('.');
  return [
    swapped(signatureAt),
    swapped(token.length - 2),
    changed,
    `${token.slice(0, signatureAt)}${'A'.repeat(token.length - signatureAt)}`,
  ];
}
