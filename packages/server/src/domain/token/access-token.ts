import type { Clock } from '@portcullis/guard';
import { SignJWT } from 'jose/jwt/sign';
import { newId } from '../../lib/id.ts';
import type { KeyRing } from '../key/key-ring.ts';
import type { Session } from '../session/session.ts';
import type { User } from '../user/user.ts';

/** Own logins are no OAuth client's; RFC 9068 section 2.2 demands the claim all the same. */
const CLIENT_ID = 'portcullis';

export type MintedToken = { readonly text: string; readonly expiresInS: number };

export interface AccessTokenMint {
  /** How long a token may live that is minted at this time: what a session's row must hold before one is. */
  expiryFor(at: number): number;
  mint(user: User, session: Pick<Session, 'id' | 'expiresAt' | 'authenticatedAt'>, at: number): Promise<MintedToken>;
}

/** Access tokens by RFC 9068. None outlives its session. */
export function accessTokenMint(on: {
  keyRing: KeyRing;
  clock: Clock;
  issuer: string;
  audience: string;
  ttlMs: number;
  /** Told of each token before anybody else can have it. */
  onMinted?: (token: string, sessionId: string) => void;
}): AccessTokenMint {
  const expiryFor = (at: number): number => at + on.ttlMs;

  return {
    expiryFor,
    async mint(user, session, at) {
      const { kid, alg, key } = on.keyRing.active();
      const iat = Math.floor(at / 1_000);
      const exp = Math.floor(Math.min(expiryFor(at), session.expiresAt) / 1_000);
      const claims = {
        iss: on.issuer,
        aud: on.audience,
        sub: user.id,
        client_id: CLIENT_ID,
        sid: session.id,
        jti: newId('token'),
        iat,
        nbf: iat,
        exp,
        scope: '',
        username: user.username,
        auth_time: Math.floor(session.authenticatedAt / 1_000),
      };
      const text = await new SignJWT(claims).setProtectedHeader({ alg, typ: 'at+jwt', kid }).sign(key);
      on.onMinted?.(text, session.id);
      return { text, expiresInS: exp - iat };
    },
  };
}
