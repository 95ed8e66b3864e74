import type { CryptoKey } from 'jose';
import { recentMap } from './recent-map.ts';
import type { Clock } from './clock.ts';
import { fewATurn } from './few-a-turn.ts';
import type { VerificationKey, VerificationKeys } from './keys.ts';
import { orThrow, Problem, refusal, refusalIn } from './problem.ts';
import { isSigned } from './signature.ts';
import { andThen, type Soon } from './soon.ts';

/** Who asks now, as a verified access token says. */
export type Caller = {
  readonly userId: string;
  readonly username: string;
  readonly sessionId: string;
  readonly tokenId: string;
  readonly clientId: string;
  readonly scopes: readonly string[];
  /** When the password was last proven; epoch milliseconds (`auth_time`). */
  readonly authenticatedAt: number;
  readonly expiresAt: number;
};

export interface AccessTokens {
  /**
   * Reads an access token. At once when it was seen before; else its signature is checked first, and may wait for its turn.
   * @throws {Problem} `token_invalid`, `token_key_gone` or `token_expired`; the reason is for the log and never quotes the token.
   */
  read(token: string): Caller | Promise<Caller>;
  /** The same, with a refusal handed back: to throw it costs more than the rest of reading. Where it is left out, the gates catch what `read` throws. */
  judge?(token: string): Soon<Caller | Problem>;
  /**
   * What a token that was not seen before says of itself, and the mark by which those know it who have its issuer's secret.
   * Its signature is not looked at: nothing of it is to be believed before the mark was found where only they can have put it.
   * `undefined` where it was seen, has no good form, or nobody told the secret. Once the mark was found, `remember` it, and `read` it:
   * its time or its key may be gone meanwhile.
   */
  unseen?(token: string): { readonly caller: Caller; readonly mark: string; readonly remember: () => void } | undefined;
  /** Remembers a token that was just signed here as one whose signature was checked. What is wrong with it is told by `read`. */
  remember?(token: string): void;
}

/** How many tokens were believed that were not seen before: their signature was checked, or those who issued them know them. */
export type ReadCounts = { verified: number; known: number };

/** Longer texts are refused unread. Ours are about 600 characters. */
const MAX_TOKEN_LENGTH = 4_096;
/** How far another machine's clock may be ahead of ours, for `iat` and `nbf`; `exp` has no leeway. */
const LEEWAY_S = 60;
/** So many signatures are checked before whoever needs no check is seen to: about a millisecond's work. */
const CHECKS_A_TURN = 8;

/**
 * Access tokens by RFC 9068 and RFC 8725: signed by a key of `keys` with that key's own algorithm, typed `at+jwt`,
 * from `issuer`, for `audience`. Verified tokens are remembered by their whole text, at most `remembered` of them; a
 * remembered one is still refused once it has expired or its key has gone. Revocation is asked elsewhere, each time.
 * Of a compromised key no signature is looked at: whoever has it can make any, so all its tokens get the same answer.
 */
export function accessTokens(on: {
  issuer: string;
  audience: string;
  keys: VerificationKeys;
  clock: Clock;
  remembered?: number;
  /** A mark for a token's whole text, by a secret that all who issue them share; 43 characters of base64url. */
  mark?: (token: string) => string;
}): Required<AccessTokens> & { readonly counts: Readonly<ReadCounts> } {
  const counts: ReadCounts = { verified: 0, known: 0 };
  const inTurn = fewATurn(CHECKS_A_TURN);
  const seen = recentMap<string, { caller: Caller; key: VerificationKey }>(on.remembered ?? 10_000);

  return {
    read: (token) => andThen(judge(token), orThrow),
    judge,
    unseen(token) {
      if (!on.mark || seen.get(token)) return undefined;
      const found = unverified(token);
      return found instanceof Problem ? undefined : { caller: found.caller, mark: on.mark(token), remember: () => keep(token, found) };
    },
    remember(token) {
      const found = unverified(token);
      if (!(found instanceof Problem)) keep(token, found);
    },
    counts,
  };

  function keep(token: string, found: { caller: Caller; key: VerificationKey }): void {
    seen.set(token, found);
    counts.known += 1;
  }

  function judge(token: string): Soon<Caller | Problem> {
    const known = seen.get(token);
    if (known) return whyGone(known.key) ?? unexpired(known.caller);
    const key = keyFor(token);
    return key instanceof Problem ? key : inTurn(() => verify(token, key)); // what the header alone refuses is refused at once
  }

  /** All that there is to check but the signature. */
  function unverified(token: string): { caller: Caller; key: VerificationKey } | Problem {
    const key = keyFor(token);
    if (key instanceof Problem) return key;
    const caller = callerOf(claimsOf(token));
    return caller instanceof Problem ? caller : { caller, key };
  }

  function verify(token: string, key: UsableKey): Caller | Problem {
    const gone = whyGone(key); // it may have, while the token waited for its turn
    if (gone) return gone;
    const signed = isSigned(token, key.alg, key.key);
    if (!signed) return refusal('token_invalid', signed === undefined ? 'key unfit' : 'signature');
    const caller = callerOf(claimsOf(token));
    if (caller instanceof Problem) return caller;
    seen.set(token, { caller, key });
    counts.verified += 1;
    return caller;
  }

  function keyFor(token: string): UsableKey | Problem {
    if (token.length > MAX_TOKEN_LENGTH) return refusal('token_invalid', 'too long');
    const headerEnd = token.indexOf('.');
    const claimsEnd = token.indexOf('.', headerEnd + 1);
    if (headerEnd < 0 || claimsEnd < 0 || token.includes('.', claimsEnd + 1)) return refusal('token_invalid', 'form');
    const header = readHeader(token.slice(0, headerEnd));
    if (header instanceof Problem) return header;
    if (typeof header.kid !== 'string') return refusal('token_invalid', 'no kid');
    const key = on.keys.find(header.kid);
    if (!key) return refusal('token_invalid', 'unknown key');
    if (!isCanonicalBase64url(token.slice(headerEnd + 1, claimsEnd)) || !isCanonicalBase64url(token.slice(claimsEnd + 1)))
      return refusal('token_invalid', 'form');
    if (header.alg !== key.alg) return refusal('token_invalid', 'algorithm');
    if (typeof header.typ !== 'string' || !/^(application\/)?at\+jwt$/i.test(header.typ)) return refusal('token_invalid', 'typ');
    return isUsable(key) ? key : refusal('token_key_gone', 'compromised');
  }

  /** Unless the key is still what it was. */
  function whyGone(key: VerificationKey): Problem | undefined {
    const now = on.keys.find(key.kid);
    if (now === key) return undefined;
    return now && !isUsable(now) ? refusal('token_key_gone', 'compromised') : refusal('token_invalid', 'key gone');
  }

  function callerOf(claims: Record<string, unknown> | Problem): Caller | Problem {
    if (claims instanceof Problem) return claims;
    try {
      return unexpired(readClaims(claims));
    } catch (error) {
      return refusalIn(error); // thrown, because beside a signature it is cheap
    }
  }

  /** @throws {Problem} */
  function readClaims(claims: Record<string, unknown>): Caller {
    const nowS = on.clock.now() / 1_000;
    if (claims.iss !== on.issuer) throw refusal('token_invalid', 'iss');
    if (!isFor(on.audience, claims.aud)) throw refusal('token_invalid', 'aud');
    if (claims.nbf !== undefined && seconds(claims, 'nbf') > nowS + LEEWAY_S) throw refusal('token_invalid', 'nbf');
    if (seconds(claims, 'iat') > nowS + LEEWAY_S) throw refusal('token_invalid', 'iat');
    return {
      userId: text(claims, 'sub'),
      username: text(claims, 'username'),
      sessionId: text(claims, 'sid'),
      tokenId: text(claims, 'jti'),
      clientId: text(claims, 'client_id'),
      scopes: claims.scope === undefined || claims.scope === '' ? [] : text(claims, 'scope').split(' '),
      authenticatedAt: seconds(claims, 'auth_time') * 1_000,
      expiresAt: seconds(claims, 'exp') * 1_000,
    };
  }

  function unexpired(caller: Caller): Caller | Problem {
    return caller.expiresAt <= on.clock.now() ? refusal('token_expired') : caller;
  }
}

/** One that is not compromised. */
type UsableKey = VerificationKey & { readonly key: CryptoKey | Uint8Array };
const isUsable = (key: VerificationKey): key is UsableKey => key.key !== 'compromised';

/** The header of a compact JWS: nothing in it names a key or changes the rules. */
function readHeader(text: string): Record<string, unknown> | Problem {
  let header = headers.get(text);
  if (!header) headers.set(text, (header = parseHeader(text)));
  return header;
}

const claimsOf = (token: string): Record<string, unknown> | Problem =>
  parseObject(token.slice(token.indexOf('.') + 1, token.lastIndexOf('.')), 'claims');

/** All tokens of a key have the same one. */
const headers = recentMap<string, Record<string, unknown> | Problem>(100);

function parseHeader(text: string): Record<string, unknown> | Problem {
  if (!isCanonicalBase64url(text)) return refusal('token_invalid', 'form');
  const header = parseObject(text, 'header');
  if (header instanceof Problem) return header;
  const odd = Object.keys(header).find((name) => refusedHeaders.has(name));
  return odd === undefined ? header : refusal('token_invalid', `header ${odd}`);
}

/** Headers that ask us to fetch or believe a key, or to follow rules we do not know (RFC 8725 sections 3.5 and 3.10, RFC 7515 section 4.1.11). */
const refusedHeaders: ReadonlySet<string> = new Set(['crit', 'b64', 'zip', 'enc', 'jku', 'jwk', 'x5u', 'x5c']);

/** Unused bits of the last character must be zero, else a changed text would decode to the same bytes, and one signature have two spellings (RFC 7515 section 2). */
const lastCharacter: Record<number, RegExp> = { 0: /[\w-]$/, 2: /[AQgw]$/, 3: /[AEIMQUYcgkosw048]$/ };

function isCanonicalBase64url(part: string): boolean {
  return /^[\w-]+$/.test(part) && lastCharacter[part.length % 4]?.test(part) === true;
}

const utf8 = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true });

/** What is decoded is looked at and left: one place serves for all. */
const decoded = Buffer.alloc(MAX_TOKEN_LENGTH);

function parseObject(base64url: string, what: 'header' | 'claims'): Record<string, unknown> | Problem {
  let value: unknown;
  try {
    const length = decoded.write(base64url, 'base64url');
    const text = decoded.toString('utf8', 0, length);
    value = JSON.parse(text.includes('\ufffd') ? utf8.decode(decoded.subarray(0, length)) : text); // what is no UTF-8 is refused, not mended
  } catch {
    return refusal('token_invalid', `${what} not JSON`);
  }
  if (typeof value !== 'object' || value === null || Array.isArray(value)) return refusal('token_invalid', `${what} not an object`);
  return value as Record<string, unknown>; // of JSON: its own, and plain
}

function text(claims: Record<string, unknown>, name: string): string {
  const value = claims[name];
  if (typeof value !== 'string' || value === '') throw refusal('token_invalid', name);
  return value;
}

/** A NumericDate (RFC 7519 section 2) that our clock can hold: a finite number from 0 to the year 9999. */
function seconds(claims: Record<string, unknown>, name: string): number {
  const value = claims[name];
  if (typeof value !== 'number' || !(value >= 0 && value <= 253_402_300_799)) throw refusal('token_invalid', name);
  return value;
}

function isFor(audience: string, aud: unknown): boolean {
  return (
    aud === audience || (Array.isArray(aud) && aud.length > 0 && aud.every((one) => typeof one === 'string') && aud.includes(audience))
  );
}
