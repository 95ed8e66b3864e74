import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, writeFileSync } from 'node:fs';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { folderFor, logIn, startProgram, wideLimits } from './support/program.ts';

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

test('what is in the way of a start is said in a line each, and nothing listens', async (t) => {
  await assert.rejects(
    startProgram(t, { entry, settings: { ACCESS_TOKEN_TTL: 'soon', PORT: 'x' } }),
    /ended with 2:\nPORTCULLIS_PORT \(environment\): .*\nPORTCULLIS_ACCESS_TOKEN_TTL \(environment\): .*\n$/,
  );
});

test('a route that the guard does not take is said by its name, in one line; a fault in the code is none of these', async (t) => {
  const folder = folderFor(t);
  const index = (name: string) => JSON.stringify(new URL(`../packages/${name}/src/index.ts`, import.meta.url).href);
  const startWith = (routes: string) => {
    const file = `${folder}/own.mjs`;
    writeFileSync(
      file,
      `import { signedIn } from ${index('guard')};
       import { start } from ${index('server')};
       const running = await start({ mode: 'dev', env: process.env, routes(app) { ${routes} } });
       if ('mistakes' in running) { console.error(running.mistakes.join('\\n')); process.exit(2); }`,
    );
    return startProgram(t, { entry: file, folder });
  };
  for (const [routes, line] of [
    ["app.get('/mine', () => 1)", /2:\nyour routes: GET \/mine says no access: .*\n$/],
    ["app.register(async (own) => { own.get('/mine', () => 1) })", /2:\nyour routes: GET \/mine says no access: .*\n$/],
    ["app.get('/mine', { config: { access: signedIn(), limits: ['3 per minte'] } }, () => 1)", /2:\nyour routes: GET \/mine: .*minte.*\n$/],
    ["app.post('/login', { config: { access: signedIn() } }, () => 1)", /2:\nyour routes: .*POST.*\/login.*\n$/],
    ['app.nothing.at.all()', /1:[^]*TypeError[^]*own\.mjs/],
  ] as const)
    await assert.rejects(startWith(routes), ({ message }: Error) => line.test(message.slice(message.indexOf('with ') + 5)), routes);
});

test('npm starts it from the checkout, whatever Node comes first on the PATH', async (t) => {
  const folder = folderFor(t);
  const child = spawn('npm', ['start', '-w', 'own-routes'], {
    cwd: fileURLToPath(new URL('..', import.meta.url)),
    env: {
      PATH: (process.env.PATH ?? '')
        .split(':')
        .filter((part) => !part.includes('node_modules'))
        .join(':'),
      HOME: process.env.HOME,
      PORTCULLIS_PORT: '0',
      PORTCULLIS_DATA_DIR: folder,
    },
    stdio: ['ignore', 'pipe', 'pipe'],
    detached: true, // a group of its own, to end with npm's child
  });
  const ended = once(child, 'close');
  t.after(async () => {
    if (child.exitCode === null && child.signalCode === null && child.pid) process.kill(-child.pid, 'SIGKILL');
    await ended;
  });
  let output = '';
  for (const stream of [child.stdout, child.stderr])
    stream.on('data', (chunk) => {
      output += chunk;
      if (output.includes('Listening on') && child.pid) process.kill(-child.pid, 'SIGTERM');
    });
  await ended;
  assert.match(output, /Listening on https:\/\/localhost:\d+/);
  assert.ok(existsSync(`${folder}/ca.pem`));
});
