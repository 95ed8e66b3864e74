import { createHash } from 'node:crypto';
import { readFileSync, statSync } from 'node:fs';
import { basename, extname } from 'node:path';
import { open } from '@portcullis/guard';
import { z } from 'zod';
import { Problem } from '../domain/problem.ts';
import type { Server } from './server.ts';

/**
 * `/docs`: the OpenAPI document as a page to read and to try, by Swagger UI. Everything on it comes from here and is asked
 * for by a path that names its contents, so browsers keep it until there is another. Its two megabytes are read when it is
 * first asked for; that they are there is seen at the start.
 */
export function addDocsPage(app: Server): void {
  const urls = files.map((file) => new URL(import.meta.resolve(file)));
  for (const url of [html, ...urls]) statSync(url);
  let read: Site | undefined;
  const site = (): Site => (read ??= readSite(urls));

  app.get(
    '/docs',
    { config: { access: open() }, schema: { hide: true, summary: 'This API as a page to read and to try' } },
    ({ headers }, reply) => {
      reply.header('cache-control', 'no-cache');
      answer(site().page, headers['if-none-match'], reply);
    },
  );

  app.get(
    '/docs/:version/:file',
    {
      config: { access: open() },
      schema: { hide: true, summary: 'What that page is made of', params: z.object({ version: z.string(), file: z.string() }) },
    },
    ({ params, headers }, reply) => {
      const { version, assets } = site();
      const asset = params.version === version ? assets.get(params.file) : undefined;
      if (!asset) throw new Problem('not_found');
      reply.header('cache-control', 'public, max-age=31536000, immutable');
      answer(asset, headers['if-none-match'], reply);
    },
  );
}

const html = new URL('docs-page/page.html', import.meta.url);

const files = [
  '@fastify/swagger-ui/static/swagger-ui-bundle.js',
  '@fastify/swagger-ui/static/swagger-ui.css',
  './docs-page/icon.svg',
  './docs-page/page.css',
  './docs-page/page.js',
];

const types: Readonly<Record<string, string>> = {
  '.css': 'text/css; charset=utf-8',
  '.html': 'text/html; charset=utf-8',
  '.js': 'text/javascript; charset=utf-8',
  '.svg': 'image/svg+xml',
};

type Site = { readonly version: string; readonly page: Asset; readonly assets: ReadonlyMap<string, Asset> };

function readSite(urls: readonly URL[]): Site {
  const assets = new Map(urls.map((url) => [basename(url.pathname), assetOf(url)]));
  const version = tagOf(Buffer.concat(Array.from(assets.values(), ({ body }) => body)));
  const text = readFileSync(html, 'utf8').replaceAll('VERSION', version);
  const page = { body: Buffer.from(text), type: types['.html'], etag: `"${tagOf(Buffer.from(text))}"` };
  return { version, page, assets };
}

type Asset = { readonly body: Buffer; readonly type: string | undefined; readonly etag: string };

function assetOf(url: URL): Asset {
  const body = readFileSync(url);
  return { body, type: types[extname(url.pathname)], etag: `"${tagOf(body)}"` };
}

const tagOf = (body: Buffer): string => createHash('sha256').update(body).digest('base64url').slice(0, 16);

/** In place of the guard's policy, under which no page would show at all: what is on this page comes from here alone. */
const CONTENT_SECURITY_POLICY = [
  "default-src 'none'",
  "script-src 'self'",
  "style-src 'self'",
  "img-src 'self' data:", // Swagger UI's own pictures
  "connect-src 'self'",
  "base-uri 'none'",
  "form-action 'none'",
  "frame-ancestors 'none'",
].join('; ');

type Reply = {
  headers(all: Readonly<Record<string, string>>): Reply;
  code(status: number): Reply;
  send(body?: unknown): unknown;
};

function answer({ body, type = '', etag }: Asset, known: string | undefined, reply: Reply): void {
  reply.headers({ etag, 'content-security-policy': CONTENT_SECURITY_POLICY, 'cross-origin-opener-policy': 'same-origin' });
  if (known?.includes(etag)) reply.code(304).send();
  else reply.headers({ 'content-type': type }).send(body);
}
