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
    // Named here, not set afterwards: else Fastify reads its own two as well, a hundred files. Its types know no others than those.
    schemaController: {
      compilersFactory: { buildValidator: () => validatorCompiler as never, buildSerializer: () => serializerCompiler as never },
    },
    frameworkErrors: (error, request, reply) => {
      app.errorHandler(error, request, reply);
    },
  }).withTypeProvider<ZodTypeProvider>();
  addJsonBody(app);
  return app;
}

export const sender = (request: FastifyRequest): Sender => ({
  ...request.from,
  requestId: request.id,
  userAgent: request.headers['user-agent'] ?? '',
});

/** What is under way for a connection (HTTP/2: a stream), to be told when nobody waits for it any more. */
const underWay = new WeakMap<object, Set<AbortController>>();

/** Does work that is not worth going on with once nobody waits for the answer: its signal says so. */
export async function whileWaitedFor<T>({ raw }: FastifyRequest, reply: FastifyReply, work: (gone: AbortSignal) => Promise<T>): Promise<T> {
  // Of several requests under way on one connection only the first has a response that hears of its end, so: the connection's.
  const line = raw.httpVersionMajor === 2 ? reply.raw : raw.socket;
  const all = underWay.get(line) ?? new Set();
  if (!underWay.has(line)) {
    underWay.set(line, all);
    line.once('close', () => {
      for (const one of all) one.abort(new Problem('request_malformed', 'the sender has gone'));
    });
  }
  const aborting = new AbortController();
  all.add(aborting);
  try {
    return await work(aborting.signal);
  } finally {
    all.delete(aborting);
  }
}

export const tokenBody = (tokens: Tokens) => ({
  access_token: tokens.accessToken,
  refresh_token: tokens.refreshToken,
  ...(tokens.deviceToken !== undefined && { device_token: tokens.deviceToken }),
  token_type: 'Bearer' as const,
  expires_in: tokens.expiresInS,
});
