import { refreshToken } from '@portcullis/guard';
import { refresh } from '../flows/refresh.ts';
import type { Services } from '../flows/services.ts';
import type { TokenCookies } from './cookies.ts';
import { sender, type Server, tokenBody } from './server.ts';
import { GivenTokens, NoBody } from './schemas.ts';

export function addRefresh(app: Server, on: Services, limits: readonly string[], cookies: TokenCookies | undefined): void {
  app.post(
    '/refresh',
    {
      config: { access: refreshToken(), limits },
      schema: { summary: 'Get the next tokens of a session', body: NoBody, response: { 200: GivenTokens } },
    },
    async (request, reply) => {
      const tokens = await refresh(on, request.refreshToken, sender(request));
      return request.transport === 'cookie' && cookies ? cookies.give(reply, tokens) : tokenBody(tokens);
    },
  );
}
