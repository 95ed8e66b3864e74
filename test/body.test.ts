import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import { problems } from '../packages/server/src/domain/problem.ts';
import { sqliteStore, type SqlStore } from '../packages/server/src/storage/sql/sql-store.ts';
import { bodies } from './support/bodies.ts';
import { type Answer, logIn, sharedProgram, wideLimits } from './support/program.ts';
import { assertRefused } from './support/refusal.ts';
import { head, speak } from './support/speak.ts';

let store: SqlStore;
const program = sharedProgram(wideLimits, ({ folder }, t) => {
  store = sqliteStore(join(folder, 'portcullis.db'));
  t.after(() => store.close());
});

const good = '{"username":"testuser","password":"password123"}';
const countSessions = async (): Promise<number> => (await store.sessions.listLive({ at: Date.now(), limit: 10_000 })).length;

/** Does it, and makes sure that no session came or went meanwhile. */
async function changingNothing(work: () => Promise<void>): Promise<void> {
  const sessions = await countSessions();
  await work();
  assert.equal(await countSessions(), sessions);
}

describe('what body gets which answer', () => {
  for (const { what, gets, bodies: sent, types = ['application/json'], headers = {} } of bodies) {
    test(`${what}: ${gets}`, async () => {
      for (const body of sent) {
        for (const type of types) {
          if (gets === 'credentials_invalid') await store.guesses.deleteDead(Infinity, 100); // it is not about how many
          const ask = () => program.ask('POST', '/login', { body, headers: { 'content-type': type, ...headers } });
          const shown = `${type} ${JSON.stringify(body.toString().slice(0, 80))}`;
          if (gets === 'read') assert.equal((await ask()).status, 200, shown);
          else await changingNothing(async () => assertRefused(await ask(), gets, shown));
        }
      }
    });
  }

  test('docs/reference/bodies.md says the same', () => {
    const rows = bodies.map(({ what, gets }) => `| ${what} | ${gets === 'read' ? 'read' : `${problems[gets].status} \`${gets}\``} |`);
    const page = readFileSync(new URL('../docs/reference/bodies.md', import.meta.url), 'utf8');
    assert.deepEqual(
      page.split('\n').filter((line) => /^\| (?!sent \||---)/.test(line)),
      rows,
    );
  });
});

describe('how it is sent', () => {
  const json = { 'content-type': 'application/json' };
  const chunk = (text: string): string => `${text.length.toString(16)}\r\n${text}\r\n`;
  const say = (fields: Record<string, string>, body: string, end = false) =>
    speak(program, head('POST', '/login', { ...json, ...fields }) + body, { end });

  test('in chunks', async () => {
    const chunked = { 'transfer-encoding': 'chunked' };
    assert.equal((await say(chunked, `${chunk(good.slice(0, 7))}${chunk(good.slice(7))}0\r\n\r\n`)).status, 200);
    assert.equal((await say(chunked, `${chunk(good)}0\r\nAuthorization: Bearer x\r\n\r\n`)).status, 200, 'trailers are passed over');
    await changingNothing(async () => {
      assertRefused(await say(chunked, `${chunk(good.padEnd(16_385))}0\r\n\r\n`), 'body_too_large');
      assertRefused(await say(chunked, '0\r\n\r\n'), 'body_invalid');
      for (const wrong of ['zz\r\nx\r\n', '-1\r\nx\r\n', '5\r\nabcdefgh\r\n0\r\n\r\n'])
        assertRefused(await say(chunked, wrong), 'request_malformed', wrong);
    });
  });

  test('in transfer codings that are not undone here', async () => {
    await changingNothing(async () => {
      for (const coding of ['gzip, chunked', 'identity', 'chunked, chunked', 'xchunked', '']) {
        assertRefused(await say({ 'transfer-encoding': coding }, `${chunk(good)}0\r\n\r\n`), 'request_malformed', coding);
      }
    });
  });

  test('with a length that is not its own', async () => {
    await changingNothing(async () => {
      assertRefused(await say({ 'content-length': '10' }, good), 'body_malformed', 'shorter');
      assertRefused(await say({ 'content-length': '100' }, good, true), 'request_malformed', 'longer');
      assertRefused(await say({ 'content-length': '99999999999' }, good), 'body_too_large', 'far longer');
      for (const length of ['-1', '+5', '5x', '', '1e3', '9'.repeat(30), `${good.length}, ${good.length}`])
        assertRefused(await say({ 'content-length': length }, good), 'request_malformed', length);
      assertRefused(await say({ 'content-length': '5', 'Content-Length': '6' }, good), 'request_malformed', 'two of them');
      assertRefused(
        await say({ 'content-length': String(good.length), 'transfer-encoding': 'chunked' }, `${chunk(good)}0\r\n\r\n`),
        'request_malformed',
        'and in chunks',
      );
    });
  });

  test('with two types: none of them counts', async () => {
    await changingNothing(async () => {
      for (const [one, two] of [
        ['application/json', 'text/plain'],
        ['text/plain', 'application/json'],
        ['application/json', 'application/json'],
      ]) {
        const lines = `POST /login HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Type: ${one}\r\ncontent-type: ${two}\r\nContent-Length: ${good.length}\r\n\r\n`;
        assertRefused(await speak(program, lines + good), 'media_type_unsupported');
      }
    });
  });

  test('with none', async () => {
    const untyped = (body: string) => speak(program, `${head('POST', '/login', { 'content-length': String(body.length) })}${body}`);
    await changingNothing(async () => {
      assertRefused(await untyped(good), 'media_type_unsupported');
      assertRefused(await untyped(''), 'body_invalid');
      assertRefused(await speak(program, head('POST', '/login')), 'body_invalid');
    });
  });
});

describe('routes that need no body', () => {
  test('POST /refresh takes none, null or {}', async () => {
    let { refresh } = await logIn(program);
    for (const body of [undefined, 'null', '{}', ' {} ']) {
      const next: Answer = await program.ask('POST', '/refresh', { bearer: refresh, ...(body !== undefined && { body }) });
      assert.equal(next.status, 200, next.text);
      refresh = next.json.refresh_token;
    }
    for (const [body, type, code] of [
      ['[]', 'application/json', 'body_invalid'],
      ['{"x":1}', 'application/json', 'body_invalid'],
      ['{', 'application/json', 'body_malformed'],
      ['x', 'text/plain', 'media_type_unsupported'],
      ['x'.repeat(20_000), 'application/json', 'body_too_large'],
    ] as const) {
      assertRefused(
        await program.ask('POST', '/refresh', { bearer: refresh, body, headers: { 'content-type': type } }),
        code,
        body.slice(0, 9),
      );
    }
    const { status, json } = await program.ask('POST', '/refresh', { bearer: refresh });
    assert.equal(status, 200, 'what was refused did not rotate it');
    assert.notEqual(json.refresh_token, refresh);
  });

  test('POST /logout: a body that is refused ends nothing, with an access token and without', async () => {
    const { access, refresh } = await logIn(program);
    const text = JSON.stringify(refresh);
    await changingNothing(async () => {
      for (const [body, code] of [
        ['[]', 'body_invalid'],
        [text, 'body_invalid'],
        [`{"refresh_token":[${text}]}`, 'body_invalid'],
        ['{"refresh_token":null}', 'body_invalid'],
        ['{"refresh_token":1}', 'body_invalid'],
        [`{"refresh_token":${text},"x":1}`, 'body_invalid'],
        [`{"refresh_token":"${'x'.repeat(1_025)}"}`, 'body_invalid'],
        [`{"refresh_token":${text}`, 'body_malformed'],
        [`{"__proto__":{"refresh_token":${text}}}`, 'body_malformed'],
      ] as const) {
        assertRefused(await program.ask('POST', '/logout', { body }), code, body.slice(0, 40));
        assertRefused(await program.ask('POST', '/logout', { body, bearer: access }), code, body.slice(0, 40));
      }
      assertRefused(
        await program.ask('POST', '/logout', {
          body: `refresh_token=${refresh}`,
          headers: { 'content-type': 'application/x-www-form-urlencoded' },
        }),
        'media_type_unsupported',
      );
    });
    assert.equal((await program.ask('GET', '/protected', { bearer: access })).status, 200);
  });

  test('a GET with a body is answered as one without', async () => {
    const { access } = await logIn(program);
    for (const [type, body] of [
      ['application/json', '{'],
      ['text/plain', 'x'],
    ] as const) {
      const answer = await speak(
        program,
        head('GET', '/protected', { authorization: `Bearer ${access}`, 'content-type': type, 'content-length': String(body.length) }) +
          body,
      );
      assert.equal(answer.text, '{"logged_in_as":"testuser"}');
    }
  });
});

test('nothing that was sent here was a fault of ours', () =>
  assert.doesNotMatch(program.output(), /fault|"level":"(error|fatal)"|at .*\.[jt]s:\d/));
