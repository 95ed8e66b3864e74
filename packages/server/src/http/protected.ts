import { signedIn } from '@portcullis/guard';
import { z } from 'zod';
import type { Server } from './server.ts';

export function addProtected(app: Server, limits: readonly string[]): void {
  app.get(
    '/protected',
    {
      config: { access: signedIn(), limits },
      schema: { summary: 'Who is signed in', response: { 200: z.object({ logged_in_as: z.string() }) } },
    },
    ({ caller }, reply) => {
      reply.send({ logged_in_as: caller.username });
    },
  );
}
