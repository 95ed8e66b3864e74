import assert from 'node:assert/strict';
import { test } from 'node:test';
import { signedIn } from '@portcullis/guard';
import type { Server } from '../packages/server/src/http/server.ts';
import { openApp } from './support/house.ts';

test('the OpenAPI document has every route, who may call it, and that every error is a problem', async (t) => {
  const routes = (own: Server): void => {
    for (const method of ['GET', 'POST']) own.route({ method, url: '/notes', config: { access: signedIn() }, handler: () => [] });
  };
  const { app } = await openApp(t, {}, { routes });
  const answer = await app.inject({ url: '/openapi.json', headers: { host: 'localhost' } });
  assert.equal(answer.statusCode, 200, answer.body);
  const { openapi, paths, components } = answer.json();
  assert.match(openapi, /^3\.1\./);

  const documented = Object.entries<Record<string, any>>(paths).flatMap(([path, methods]) =>
    Object.keys(methods)
      .filter((method) => method !== 'head')
      .map((method) => `${method.toUpperCase()} ${path}`),
  );
  const shown = app.guardedRoutes.filter(({ path }) => !path.startsWith('/docs')); // the page that shows the others
  assert.deepEqual(documented.toSorted(), shown.map(({ method, path }) => `${method} ${path}`).toSorted());
  for (const { method, path, access } of shown) {
    const operation = paths[path][method.toLowerCase()];
    const byCookie = (name: string) => ({ [name]: [], ...(method !== 'GET' && { csrf: [] }) });
    const demanded = {
      open: undefined,
      'signed in': [{ access: [] }, byCookie('accessCookie')],
      'any token of a session, if one is sent': [{ access: [] }, byCookie('refreshCookie'), byCookie('accessCookie'), {}],
      'refresh token': [{ refresh: [] }, byCookie('refreshCookie')],
    }[access];
    assert.deepEqual(operation.security, demanded, path);
    assert.equal(operation.responses.default.content['application/problem+json'].schema.$ref, '#/components/schemas/Problem', path);
  }
  for (const [, name = ''] of answer.body.matchAll(/#\/components\/schemas\/(\w+)/g))
    assert.ok(components.schemas[name], `${name} is referred to and not there`);
  assert.ok(
    Object.keys(components.schemas).every((name) => !name.endsWith('Input')),
    'each schema once',
  );
  for (const { in: where, name } of Object.values<{ in?: string; name?: string }>(components.securitySchemes))
    assert.equal(where, name?.replace(/^__Host-.*$/, 'cookie').replace('X-CSRF-Token', 'header'));
  assert.equal(paths['/login'].post.requestBody.required, true);
  assert.equal(paths['/logout'].post.requestBody.required, false);
});
