import { open } from '@portcullis/guard';
import { z } from 'zod';
import { Problem } from '../domain/problem.ts';
import type { Server } from './server.ts';

/** Whether requests should be sent here; `undefined` is yes. The reason is for the inside. */
export type Readiness = () => Promise<string | undefined>;

/** Yes or no and nothing else: what is wrong is nobody's business outside. */
export function addHealth(app: Server, readiness: Readiness): void {
  const answer = { 200: z.object({ status: z.literal('ok') }) };

  app.get(
    '/healthz',
    {
      config: { access: open(), plain: 'allowed' },
      schema: { summary: 'Is the process alive', response: answer },
    },
    (_, reply) => {
      reply.send({ status: 'ok' });
    },
  );

  app.get(
    '/readyz',
    {
      config: { access: open(), plain: 'allowed' },
      schema: { summary: 'Should requests be sent here', response: answer },
    },
    async () => {
      const trouble = await readiness();
      if (trouble !== undefined) throw new Problem('unavailable', trouble, { retryAfterS: 2 });
      return { status: 'ok' } as const;
    },
  );
}
