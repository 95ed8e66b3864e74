import { signedInIfSent } from '@portcullis/guard';
import { Problem } from '../domain/problem.ts';
import { logout, logoutByRefreshToken } from '../flows/logout.ts';
import type { Services } from '../flows/services.ts';
import { sender, type Server } from './server.ts';
import { LogoutBody, Message } from './schemas.ts';

export function addLogout(app: Server, on: Services, limits: readonly string[]): void {
  app.post(
    '/logout',
    {
      config: { access: signedInIfSent(), limits },
      schema: { summary: 'End a session', body: LogoutBody, response: { 200: Message } },
    },
    async (request) => {
      const { callerIfSent, body } = request;
      if (callerIfSent) await logout(on, callerIfSent, sender(request));
      else if (body?.refresh_token !== undefined) await logoutByRefreshToken(on, body.refresh_token, sender(request));
      else throw new Problem('token_missing');
      return { msg: 'Successfully logged out' };
    },
  );
}
