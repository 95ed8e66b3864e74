import { cookie, type CookieName, type SameSite, tokenCookieNames } from '@portcullis/guard';
import type { FastifyReply } from 'fastify';
import { DEVICE_TOKEN_TTL_MS } from '../domain/token/device-token.ts';
import type { Services, Tokens } from '../flows/services.ts';

/** What a device is known by: it outlives the session, and a logout. */
export const deviceCookieName: CookieName = '__Host-portcullis-device';

/** Tokens in cookies in place of bodies. */
export interface TokenCookies {
  /** Sets a cookie for each, as long as it lives; gives the body that goes with them, which has no token in it. */
  give(reply: FastifyReply, tokens: Tokens): { expires_in: number; csrf_token: string };
  /** Removes those of the session. */
  clear(reply: FastifyReply): void;
}

/** Refusals set and clear nothing: of two requests at once, the one that loses must not undo what the other was given. */
export function tokenCookies({ csrfTokens }: Pick<Services, 'csrfTokens'>, sameSite: SameSite): TokenCookies {
  /** Beside the cookies that are there already; 0 seconds remove it. */
  const set = (reply: FastifyReply, name: CookieName, value: string, maxAgeS: number): void => {
    reply.header('set-cookie', cookie(name, value, { maxAgeS, sameSite }));
  };

  return {
    give(reply, { accessToken, refreshToken, expiresInS, sessionId, sessionEndsInS, deviceToken }) {
      set(reply, tokenCookieNames.access, accessToken, expiresInS);
      set(reply, tokenCookieNames.refresh, refreshToken, sessionEndsInS);
      if (deviceToken !== undefined) set(reply, deviceCookieName, deviceToken, DEVICE_TOKEN_TTL_MS / 1_000);
      return { expires_in: expiresInS, csrf_token: csrfTokens.tokenFor(sessionId) };
    },
    clear(reply) {
      for (const name of Object.values(tokenCookieNames)) set(reply, name, '', 0);
    },
  };
}
