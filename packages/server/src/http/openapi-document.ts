import swagger from '@fastify/swagger';
import { type Access, tokenCookieNames } from '@portcullis/guard';
import Fastify, { type RouteOptions } from 'fastify';
import { jsonSchemaTransform, jsonSchemaTransformObject } from 'fastify-type-provider-zod';
import { version } from '../lib/version.ts';
import { ProblemBody } from './schemas.ts';

/**
 * OpenAPI 3.1 of routes, as text. The generator reads them as they are added to an app, so they are added to one that
 * nobody can ask; it lives no longer than this.
 */
export async function openApiDocument(routes: readonly RouteOptions[], issuer: string, cookies: boolean): Promise<string> {
  const asIs = (): never => (() => String) as never; // nothing is ever asked there, so nothing is checked or written
  const app = Fastify({ exposeHeadRoutes: false, schemaController: { compilersFactory: { buildValidator: asIs, buildSerializer: asIs } } });
  await app.register(swagger, {
    openapi: {
      openapi: '3.1.0',
      info: {
        title: 'Portcullis',
        version,
        description: 'Logins, sessions and revocation over HTTPS. Every error is a problem (RFC 9457) with a stable `code`.',
      },
      servers: [{ url: issuer }],
      components: {
        securitySchemes: {
          access: { type: 'http', scheme: 'bearer', bearerFormat: 'JWT', description: 'An access token (RFC 9068).' },
          refresh: { type: 'http', scheme: 'bearer', description: 'A refresh token, `prt_…`.' },
          ...(cookies && cookieSchemes),
        },
      },
    },
    transform({ schema, url, route, ...rest }) {
      const isSafe = [route.method].flat().every((method) => method === 'GET' || method === 'HEAD');
      const security = securityOf(route.config?.access?.kind ?? 'open', cookies, isSafe);
      const response = { ...(schema?.response ?? {}), default: ProblemBody }; // a route of one's own may have no schema, whatever the type says
      return jsonSchemaTransform({ schema: { ...schema, response, ...(security && { security }) }, url, route, ...rest });
    },
    transformObject: (document) => tidied(jsonSchemaTransformObject(document)),
  });
  for (const { method, url, config, schema } of routes)
    if (method !== 'HEAD') app.route({ method, url, handler: () => {}, ...(config && { config }), ...(schema && { schema }) });
  await app.ready();
  return JSON.stringify(app.swagger());
}

const cookieSchemes = {
  accessCookie: {
    type: 'apiKey',
    in: 'cookie',
    name: tokenCookieNames.access,
    description: 'Set by a login with `"transport": "cookie"`.',
  },
  refreshCookie: { type: 'apiKey', in: 'cookie', name: tokenCookieNames.refresh, description: 'Set beside it.' },
  csrf: { type: 'apiKey', in: 'header', name: 'X-CSRF-Token', description: 'With a cookie, for whatever changes something.' },
} as const;

type Demanded = Record<string, never[]>;

/** The alternatives of a route; one that is empty is "or nobody in particular". */
function securityOf(kind: Access['kind'], cookies: boolean, isSafe: boolean): Demanded[] | undefined {
  const inCookie = (name: string): Demanded[] => (cookies ? [{ [name]: [], ...(!isSafe && { csrf: [] }) }] : []);
  switch (kind) {
    case 'open':
      return undefined;
    case 'signed-in':
      return [{ access: [] }, ...inCookie('accessCookie')];
    case 'signed-in-if-sent':
      return [{ access: [] }, ...inCookie('accessCookie'), {}];
    case 'session-if-named':
      return [{ access: [] }, ...inCookie('refreshCookie'), ...inCookie('accessCookie'), {}];
    case 'refresh-token':
      return [{ refresh: [] }, ...inCookie('refreshCookie')];
  }
}

/** Of an OpenAPI document, what is looked at here. */
type Schema = { readonly $ref?: string; readonly anyOf?: readonly { readonly type?: string }[] };
type Content = { readonly content?: Readonly<Record<string, { readonly schema?: Schema }>> };
type Operation = { readonly requestBody?: Content & { required?: boolean }; readonly responses?: Readonly<Record<string, Content>> };
type Document = {
  readonly components?: { readonly schemas?: Record<string, Schema> };
  readonly paths?: Readonly<Record<string, Readonly<Record<string, Operation>>>>;
};

/**
 * What the generator leaves behind: each schema twice (as input and as output), bodies that may be left out as required
 * ones, problems as plain JSON.
 */
function tidied<T>(document: T): T {
  const json = JSON.parse(JSON.stringify(document).replaceAll(/(#\/components\/schemas\/\w+)Input"/g, '$1"')) as Document; // just written as JSON
  const { schemas = {} } = json.components ?? {};
  for (const name of Object.keys(schemas)) {
    const both = name.endsWith('Input') ? name.slice(0, -'Input'.length) : undefined;
    if (both === undefined || !schemas[both]) continue;
    schemas[both] = schemas[name] ?? schemas[both];
    delete schemas[name];
  }
  for (const { requestBody, responses } of Object.values(json.paths ?? {}).flatMap((path) => Object.values(path))) {
    const alternatives = (schemas[refOf(requestBody)] ?? bodyOf(requestBody))?.anyOf;
    if (requestBody && alternatives?.some(({ type }) => type === 'null')) requestBody.required = false;
    Object.assign(responses?.['200'] ?? {}, { description: 'Done' });
    const problem = responses?.default;
    if (problem?.content)
      Object.assign(problem, {
        description: 'A problem, by its code',
        content: { 'application/problem+json': problem.content['application/json'] },
      });
  }
  return json as T; // the same document, tidier
}

const bodyOf = (body: Content | undefined): Schema | undefined => body?.content?.['application/json']?.schema;
const refOf = (body: Content | undefined): string => bodyOf(body)?.$ref?.split('/').at(-1) ?? '';
