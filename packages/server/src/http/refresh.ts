import { refreshToken } from '@portcullis/guard';
import { refresh } from '../flows/refresh.ts';
import type { Services } from '../flows/services.ts';
import { sender, type Server, tokenBody } from './server.ts';
import { NoBody, Tokens } from './schemas.ts';

export function addRefresh(app: Server, on: Services, limits: readonly string[]): void {
  app.post(
    '/refresh',
    {
      config: { access: refreshToken(), limits },
      schema: { summary: 'Get the next tokens of a session', body: NoBody, response: { 200: Tokens } },
    },
    async (request) => tokenBody(await refresh(on, request.refreshToken, sender(request))),
  );
}
