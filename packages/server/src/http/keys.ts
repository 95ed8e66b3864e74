import { open } from '@portcullis/guard';
import { z } from 'zod';
import type { Services } from '../flows/services.ts';
import type { Server } from './server.ts';

/** Half of the time that a key is published before it signs, so that no verifier meets a key it cannot know. */
const MAX_AGE_S = 300;

export function addKeys(app: Server, on: Pick<Services, 'keyRing' | 'revoked'>): void {
  app.get(
    '/.well-known/jwks.json',
    {
      config: { access: open() },
      schema: {
        summary: 'Public keys of access tokens (RFC 7517)',
        response: { 200: z.object({ keys: z.array(z.record(z.string(), z.unknown())) }) },
      },
    },
    async (_, reply) => {
      await on.revoked.current();
      return reply.header('cache-control', `public, max-age=${MAX_AGE_S}`).send(on.keyRing.jwks());
    },
  );
}
