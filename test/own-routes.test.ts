import assert from 'node:assert/strict';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { logIn, startProgram, wideLimits } from './support/program.ts';

const entry = fileURLToPath(new URL('../examples/own-routes/server.ts', import.meta.url));

test("routes of one's own: the server's logins open them, its logouts close them, and their limits count", async (t) => {
  const program = await startProgram(t, { entry, settings: wideLimits });
  const add = (bearer: string | undefined, json: unknown = { text: 'milk' }) =>
    program.ask('POST', '/notes', { json, ...(bearer !== undefined && { bearer }) });
  const list = async (bearer: string) => (await program.ask('GET', '/notes', { bearer })).json;

  assert.deepEqual([(await add(undefined)).json.code, (await add('x')).json.code], ['token_missing', 'token_invalid']);
  const { access } = await logIn(program);
  assert.deepEqual(await list(access), [], 'what was refused is not there');

  const added = await add(access);
  assert.deepEqual([added.status, added.json], [201, { text: 'milk' }]);
  for (const wrong of [{}, { text: 7 }, { text: 'x'.repeat(1_001) }, { text: 'x', more: 1 }])
    assert.deepEqual([(await add(access, wrong)).status, await list(access)], [400, ['milk']]);

  // Five have been counted. The limit is the user's: another login of the same one has no more.
  const second = await logIn(program);
  const statuses = [];
  for (let i = 0; i < 7; i += 1) statuses.push((await add(i % 2 ? access : second.access)).status);
  assert.deepEqual(statuses, [201, 201, 201, 201, 201, 429, 429]);
  assert.equal((await list(second.access)).length, 6);

  assert.equal((await program.ask('POST', '/logout', { bearer: access })).status, 200);
  assert.deepEqual(
    [(await add(access)).json.code, (await program.ask('GET', '/notes', { bearer: access })).json.msg],
    ['token_revoked', 'Token has been revoked'],
  );
  assert.equal((await list(second.access)).length, 6, 'the other session goes on');

  const documented = (await program.ask('GET', '/openapi.json')).json.paths['/notes'];
  assert.deepEqual(Object.keys(documented).toSorted(), ['get', 'post'], 'they are in the OpenAPI document too');
  assert.equal(await program.stop(), 0, 'it ends when it is told to');
});

test('what is in the way of a start is said, and nothing listens', async (t) => {
  await assert.rejects(
    startProgram(t, { entry, settings: { ACCESS_TOKEN_TTL: 'soon' } }),
    /ended with 1:[^]*PORTCULLIS_ACCESS_TOKEN_TTL \(environment\)/,
  );
});
