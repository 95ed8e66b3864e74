import { sessionIfNamed } from '@portcullis/guard';
import { Problem } from '../domain/problem.ts';
import { logout, logoutByRefreshToken } from '../flows/logout.ts';
import type { Services } from '../flows/services.ts';
import type { TokenCookies } from './cookies.ts';
import { sender, type Server } from './server.ts';
import { LogoutBody, Message } from './schemas.ts';

export function addLogout(app: Server, on: Services, limits: readonly string[], cookies: TokenCookies | undefined): void {
  app.post(
    '/logout',
    {
      config: { access: sessionIfNamed(), limits },
      schema: { summary: 'End a session', body: LogoutBody, response: { 200: Message } },
    },
    async (request, reply) => {
      const { transport, sessionIdIfSent: sessionId, body } = request;
      if (transport === undefined && body?.refresh_token === undefined) throw new Problem('token_missing');
      if (sessionId !== undefined) await logout(on, { sessionId }, sender(request));
      if (transport !== 'bearer' && body?.refresh_token !== undefined) await logoutByRefreshToken(on, body.refresh_token, sender(request));
      if (transport === 'cookie') cookies?.clear(reply);
      return { msg: 'Successfully logged out' };
    },
  );
}
