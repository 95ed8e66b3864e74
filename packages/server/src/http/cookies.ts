import { cookie, type CookieName, type SameSite, tokenCookieNames } from '@portcullis/guard';
import type { FastifyReply } from 'fastify';
import type { Services, Tokens } from '../flows/services.ts';

/** Tokens in cookies in place of bodies. */
export interface TokenCookies {
  /** Sets both cookies, each as long as its token lives; gives the body that goes with them, which has no token in it. */
  give(reply: FastifyReply, tokens: Tokens): { expires_in: number; csrf_token: string };
  /** Removes both. */
  clear(reply: FastifyReply): void;
  /** Beside the cookies that are there already. @param maxAgeS in whole seconds; 0 removes it. */
  set(reply: FastifyReply, name: CookieName, value: string, maxAgeS: number): void;
}

/** Refusals set and clear nothing: of two requests at once, the one that loses must not undo what the other was given. */
export function tokenCookies({ csrfTokens }: Pick<Services, 'csrfTokens'>, sameSite: SameSite): TokenCookies {
  const set: TokenCookies['set'] = (reply, name, value, maxAgeS) => {
    reply.header('set-cookie', cookie(name, value, { maxAgeS, sameSite }));
  };

  return {
    set,
    give(reply, { accessToken, refreshToken, expiresInS, sessionId, sessionEndsInS }) {
      set(reply, tokenCookieNames.access, accessToken, expiresInS);
      set(reply, tokenCookieNames.refresh, refreshToken, sessionEndsInS);
      return { expires_in: expiresInS, csrf_token: csrfTokens.tokenFor(sessionId) };
    },
    clear(reply) {
      for (const name of Object.values(tokenCookieNames)) set(reply, name, '', 0);
    },
  };
}
