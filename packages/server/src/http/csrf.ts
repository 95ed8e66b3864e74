import { refreshToken } from '@portcullis/guard';
import { z } from 'zod';
import { Problem } from '../domain/problem.ts';
import type { Services } from '../flows/services.ts';
import { csrfToken } from './schemas.ts';
import type { Server } from './server.ts';

/** By the refresh cookie, because it lives longest: a page that was loaded anew needs this token to refresh. */
export function addCsrf(app: Server, { csrfTokens }: Pick<Services, 'csrfTokens'>): void {
  app.get(
    '/csrf',
    {
      config: { access: refreshToken() },
      schema: { summary: 'Get the CSRF token of the session in the cookies', response: { 200: z.object({ csrf_token: csrfToken }) } },
    },
    ({ sessionIdIfSent }, reply) => {
      if (sessionIdIfSent === undefined)
        throw new Problem('token_missing', 'bearer', { detail: 'Only a session in cookies has a CSRF token.' });
      reply.send({ csrf_token: csrfTokens.tokenFor(sessionIdIfSent) });
    },
  );
}
