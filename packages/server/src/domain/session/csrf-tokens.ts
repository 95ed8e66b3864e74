import { deriveKey, hmac, isSame } from '../../lib/seal.ts';

/** For pages whose session is in cookies: what a page must show to act in it, and only a page that may read our answers can know. */
export interface CsrfTokens {
  /** The same for as long as the session lives: HMAC-SHA256 over its id, as base64url. Nothing is stored. */
  tokenFor(sessionId: string): string;
  /** In constant time. */
  matches(sessionId: string, sent: string): boolean;
}

/** @param masterSecrets tokens are made under the first; those under the others are still good. */
export function csrfTokens(masterSecrets: readonly [string, ...string[]]): CsrfTokens {
  const makers = masterSecrets.map((secret) => {
    const key = deriveKey(secret, 'csrf');
    return (sessionId: string): string => hmac(key, sessionId).toString('base64url');
  });
  const [newest = () => ''] = makers;

  return {
    tokenFor: (sessionId) => newest(sessionId),
    matches: (sessionId, sent) => makers.some((tokenFor) => isSame(Buffer.from(tokenFor(sessionId)), Buffer.from(sent))),
  };
}
