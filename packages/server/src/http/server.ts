import Fastify, {
  type FastifyBaseLogger,
  type FastifyInstance,
  type FastifyRequest,
  type FastifyServerFactoryHandler,
  type RawReplyDefaultExpression,
  type RawRequestDefaultExpression,
} from 'fastify';
import { serializerCompiler, validatorCompiler, type ZodTypeProvider } from 'fastify-type-provider-zod';
import type { Server as HttpServer } from 'node:http';
import type { Origin, Tokens } from '../flows/services.ts';
import { addJsonBody } from './json-body.ts';

/** Fastify with our schemas. */
export type Server = FastifyInstance<
  HttpServer,
  RawRequestDefaultExpression,
  RawReplyDefaultExpression,
  FastifyBaseLogger,
  ZodTypeProvider
>;

/** The largest body of our own routes by far: a refresh token of a hundred characters, a password of some thousand. */
const BODY_LIMIT = 16_384;

export function makeServer(serverFactory: (handler: FastifyServerFactoryHandler) => HttpServer): Server {
  const app: Server = Fastify<HttpServer>({
    serverFactory,
    bodyLimit: BODY_LIMIT,
    forceCloseConnections: false,
    return503OnClosing: false,
    routerOptions: { maxParamLength: 256 },
    frameworkErrors: (error, request, reply) => {
      app.errorHandler(error, request, reply);
    },
  }).withTypeProvider<ZodTypeProvider>();
  app.setValidatorCompiler(validatorCompiler);
  app.setSerializerCompiler(serializerCompiler);
  addJsonBody(app);
  return app;
}

export const origin = (request: FastifyRequest): Origin => ({
  address: request.from.address,
  requestId: request.id,
  userAgent: request.headers['user-agent'] ?? '',
});

export const tokenBody = (tokens: Tokens) => ({
  access_token: tokens.accessToken,
  refresh_token: tokens.refreshToken,
  token_type: 'Bearer' as const,
  expires_in: tokens.expiresInS,
});
