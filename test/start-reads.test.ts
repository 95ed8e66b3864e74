import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { test } from 'node:test';
import { folderFor } from './support/program.ts';

const script = `
  import { registerHooks } from 'node:module';
  const read = [];
  registerHooks({ load(url, context, next) { read.push(url); return next(url, context); } });
  const { start } = await import(${JSON.stringify(new URL('../packages/server/src/start.ts', import.meta.url))});
  const env = { PORTCULLIS_PORT: '0', PORTCULLIS_ADMIN_LISTEN: '127.0.0.1:0', PORTCULLIS_DATA_DIR: process.argv[1] };
  const running = await start({ mode: 'dev', env });
  await running.stop();
  console.log(JSON.stringify([...read, ...process.moduleLoadList]));`;

test('a start reads only what it needs: nothing for a Redis or a PostgreSQL that is not set, for passwords that nobody sets, for pages that nobody asks, for tokens that we do not have', (t) => {
  const folder = folderFor(t);
  const started = (): string[] => {
    const { stdout, stderr } = spawnSync(process.execPath, ['--input-type=module', '--eval', script, folder], { encoding: 'utf8' });
    assert.notEqual(stdout, '', stderr);
    return JSON.parse(stdout);
  };
  assert.ok(started().some((read) => read.includes('@peculiar/x509'))); // which makes the certificate of a demo, once
  const read = started();
  assert.ok(read.some((name) => name.endsWith('/app.ts')));
  const needless =
    /node_modules\/(@redis\/client|pg|ajv|fast-json-stringify\/index|jose\/dist\/webapi\/(index|jwe|jwks)|@fastify\/swagger|yaml|@zxcvbn-ts|@peculiar)|swagger-ui|undici/;
  assert.deepEqual(
    read.filter((name) => needless.test(name)),
    [],
  );
});
