import { macs, type Secrets } from '../../lib/seal.ts';

/** For pages whose session is in cookies: what a page must show to act in it, and only a page that may read our answers can know. */
export interface CsrfTokens {
  /** The same for as long as the session lives: HMAC-SHA256 over its id, as base64url. Nothing is stored. */
  tokenFor(sessionId: string): string;
  /** In constant time. */
  matches(sessionId: string, sent: string): boolean;
}

export function csrfTokens(secrets: Secrets): CsrfTokens {
  const { of, isOne } = macs(secrets, 'csrf');
  return {
    tokenFor: (sessionId) => of(sessionId).toString('base64url'),
    matches: (sessionId, sent) => form.test(sent) && isOne(Buffer.from(sent, 'base64url'), sessionId),
  };
}

/** 32 bytes: 43 characters, of which the last has two idle bits, both zero. */
const form = /^[\w-]{42}[AEIMQUYcgkosw048]$/;
