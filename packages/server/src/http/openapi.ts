import { open } from '@portcullis/guard';
import type { RouteOptions } from 'fastify';
import { z } from 'zod';
import type { Server } from './server.ts';

/**
 * `/openapi.json`: OpenAPI 3.1 of every route that is added from now on, made from the routes themselves. What makes it is
 * read, and the document written, once, when it is first asked for: most servers are never asked.
 */
export function addOpenApi(app: Server, issuer: string, { cookies }: { cookies: boolean }): void {
  const routes: RouteOptions[] = [];
  app.addHook('onRoute', (route) => void routes.push(route));

  let text: Promise<string> | undefined;
  const write = async (): Promise<string> => {
    const { openApiDocument } = await import('./openapi-document.ts');
    return openApiDocument(routes, issuer, cookies);
  };
  app.get(
    '/openapi.json',
    {
      config: { access: open() },
      schema: {
        summary: 'This API as OpenAPI 3.1',
        response: { 200: z.record(z.string(), z.unknown()).describe('An OpenAPI 3.1 document') },
      },
    },
    async (_, reply) => {
      text ??= write().catch((error: unknown) => {
        text = undefined; // what was in the way may pass
        throw error;
      });
      // It was made here, from our own schemas: another look at it would change nothing.
      return reply
        .header('content-type', 'application/json; charset=utf-8')
        .serializer((made: unknown) => String(made))
        .send((await text) as never);
    },
  );
}
