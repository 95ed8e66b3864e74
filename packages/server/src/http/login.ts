import { findCookie, open, tokenCookieNames } from '@portcullis/guard';
import { Problem } from '../domain/problem.ts';
import { usernameKey } from '../domain/user/user.ts';
import { login } from '../flows/login.ts';
import type { Services } from '../flows/services.ts';
import type { TokenCookies } from './cookies.ts';
import { sender, type Server, tokenBody, whileWaitedFor } from './server.ts';
import { Credentials, GivenTokens } from './schemas.ts';

export function addLogin(app: Server, on: Services, limits: readonly string[], cookies: TokenCookies | undefined): void {
  app.post(
    '/login',
    {
      config: { access: open(), limits },
      schema: { summary: 'Open a session', body: Credentials, response: { 200: GivenTokens } },
    },
    async (request, reply) => {
      const { transport, ...credentials } = request.body;
      const giving = transport === 'cookie' ? { cookies: cookies ?? refuseCookies() } : undefined;
      if (giving) request.assertOwnOrigin();
      const left = giving && findCookie(request.headers.cookie, tokenCookieNames.refresh);
      await request.countUsername(usernameKey(credentials.username));
      const tokens = await whileWaitedFor(request, reply, (gone) => login(on, credentials, { ...sender(request), gone }, left));
      return giving ? giving.cookies.give(reply, tokens) : tokenBody(tokens);
    },
  );
}

function refuseCookies(): never {
  throw new Problem('body_invalid', 'cookies are off', {
    detail: 'This server sets no cookies: leave out "transport", or send "bearer". Nothing was changed.',
  });
}
