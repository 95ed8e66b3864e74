import Fastify, {
  type FastifyBaseLogger,
  type FastifyInstance,
  type FastifyReply,
  type FastifyRequest,
  type FastifyServerFactoryHandler,
  type RawReplyDefaultExpression,
  type RawRequestDefaultExpression,
} from 'fastify';
import { serializerCompiler, validatorCompiler, type ZodTypeProvider } from 'fastify-type-provider-zod';
import type { Server as HttpServer } from 'node:http';
import { Problem } from '../domain/problem.ts';
import type { Sender, Tokens } from '../flows/services.ts';
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

export const sender = (request: FastifyRequest): Sender => ({
  address: request.from.address,
  requestId: request.id,
  userAgent: request.headers['user-agent'] ?? '',
});

/** Does work that is not worth doing, or not worth waiting for, once nobody waits for the answer: told by its signal. */
export async function whileWaitedFor<T>({ raw }: FastifyRequest, reply: FastifyReply, work: (gone: AbortSignal) => Promise<T>): Promise<T> {
  const aborting = new AbortController();
  const abort = (): void => aborting.abort(new Problem('request_malformed', 'the sender has gone'));
  // Of several requests under way on one connection only the first has a response that hears of its end, so: the connection's.
  const line = raw.httpVersionMajor === 2 ? reply.raw : raw.socket;
  line.once('close', abort);
  try {
    return await work(aborting.signal);
  } finally {
    line.off('close', abort);
  }
}

export const tokenBody = (tokens: Tokens) => ({
  access_token: tokens.accessToken,
  refresh_token: tokens.refreshToken,
  token_type: 'Bearer' as const,
  expires_in: tokens.expiresInS,
});
