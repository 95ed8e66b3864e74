import { type CookieName, findCookie, open, tokenCookieNames } from '@portcullis/guard';
import { Problem } from '../domain/problem.ts';
import { usernameKey } from '../domain/user/user.ts';
import { login } from '../flows/login.ts';
import type { Services } from '../flows/services.ts';
import { deviceCookieName, type TokenCookies } from './cookies.ts';
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
      const { username, password, transport, device_token } = request.body;
      const giving = transport === 'cookie' ? { cookies: cookies ?? refuseCookies() } : undefined;
      if (giving) request.assertOwnOrigin();
      const ofBrowser = (name: CookieName): string | undefined => giving && findCookie(request.headers.cookie, name);
      await request.countUsername(usernameKey(username));
      const credentials = { username, password, deviceToken: device_token ?? ofBrowser(deviceCookieName) };
      const left = ofBrowser(tokenCookieNames.refresh);
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
