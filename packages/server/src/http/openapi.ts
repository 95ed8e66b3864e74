import swagger from '@fastify/swagger';
import { open, type ProblemRow } from '@portcullis/guard';
import type { FastifyInstance } from 'fastify';
import { jsonSchemaTransform, jsonSchemaTransformObject } from 'fastify-type-provider-zod';
import { z } from 'zod';
import { problems } from '../domain/problem.ts';
import type { Server } from './server.ts';

/** OpenAPI 3.1 of every route, made from the routes themselves. */
export async function addOpenApi(app: Server, issuer: string): Promise<void> {
  await app.register(swagger, {
    openapi: {
      openapi: '3.1.0',
      info: { title: 'Portcullis', version: '0.1.0', description: 'Logins, sessions and revocation over HTTPS. Every error is a problem (RFC 9457) with a stable `code`.' },
      servers: [{ url: issuer }],
      components: { securitySchemes: {
        access: { type: 'http', scheme: 'bearer', bearerFormat: 'JWT', description: 'An access token (RFC 9068).' },
        refresh: { type: 'http', scheme: 'bearer', description: 'A refresh token, prt_….' },
      } },
    },
    transform: jsonSchemaTransform,
    transformObject: jsonSchemaTransformObject,
  });

  // Swagger's own types name the default instance; ours differs in its type provider alone.
  const documented = app as unknown as FastifyInstance;
  app.get('/openapi.json', {
    config: { access: open() },
    schema: { summary: 'This API as OpenAPI 3.1', response: { 200: z.record(z.string(), z.unknown()) } },
  }, (_, reply) => { reply.serializer(JSON.stringify).send({ ...documented.swagger() }); });
}

export const problemRows: Readonly<Record<string, ProblemRow>> = problems;
