import { crc32 } from 'node:zlib';
import { REFRESH_TOKEN_PREFIX } from '@portcullis/guard';
import { sessionIdBytes, sessionIdOf } from '../../lib/id.ts';
import { deriveKey, macs, seal, type Secrets, sha256, unseal } from '../../lib/seal.ts';
import { randomBytes } from '../../lib/secret.ts';

/** A refresh token that is really ours: its MAC was good. Whether it is still the chain's last, the store knows. */
export type RefreshToken = {
  readonly sessionId: string;
  readonly generation: number;
  /** 256 random bits; they never leave this process but inside the token. */
  readonly secret: Uint8Array;
  /** What the store keeps. */
  readonly hash: string;
};

export type Successor = {
  readonly text: string;
  readonly hash: string;
  /** The text, sealed under a key derived from the token that it follows. */
  readonly seal: string;
};

export interface RefreshTokens {
  /** The first of a session's chain. */
  first(sessionId: string): { text: string; hash: string };
  /** `undefined` for whatever is not ours: form, checksum or MAC. Costs no look-up, so that anyone may send anything. */
  read(text: string): RefreshToken | undefined;
  next(token: RefreshToken): Successor;
  /** The successor that was sealed for who holds this token. */
  unseal(token: RefreshToken, successorSeal: string): string | undefined;
}

// prt_ + base64url(session id 16 | generation 4 | random 32 | MAC 16) + checksum. Scanners of leaked secrets find it by
// its prefix and know by its checksum that it is no accident, without asking us.
const SECRET_AT = 20;
const MAC_AT = 52;
const LENGTH = 68;
const TEXT_LENGTH = Math.ceil((LENGTH * 4) / 3);
const CHECKSUM_LENGTH = 6;
const form = new RegExp(`^${REFRESH_TOKEN_PREFIX}[\\w-]{${TEXT_LENGTH + CHECKSUM_LENGTH}}$`);

/** @param secrets under another secret no token is ours */
export function refreshTokens(secrets: Secrets): RefreshTokens {
  const mac = macs(secrets, 'refresh token', LENGTH - MAC_AT);

  function make(sessionId: string, generation: number): { text: string; hash: string } {
    const bytes = Buffer.alloc(LENGTH);
    sessionIdBytes(sessionId).copy(bytes);
    bytes.writeUInt32BE(generation, 16);
    randomBytes(MAC_AT - SECRET_AT).copy(bytes, SECRET_AT);
    mac.of(bytes.subarray(0, MAC_AT)).copy(bytes, MAC_AT);
    const body = bytes.toString('base64url');
    const text = REFRESH_TOKEN_PREFIX + body + checksum(body);
    return { text, hash: sha256(text) };
  }

  return {
    first: (sessionId) => make(sessionId, 0),

    read(text) {
      if (!form.test(text)) return undefined;
      const body = text.slice(REFRESH_TOKEN_PREFIX.length, -CHECKSUM_LENGTH);
      const bytes = Buffer.from(body, 'base64url');
      if (bytes.toString('base64url') !== body || text.slice(-CHECKSUM_LENGTH) !== checksum(body)) return undefined;
      if (!mac.isOne(bytes.subarray(MAC_AT), bytes.subarray(0, MAC_AT))) return undefined;
      return {
        sessionId: sessionIdOf(bytes.subarray(0, 16)),
        generation: bytes.readUInt32BE(16),
        secret: bytes.subarray(SECRET_AT, MAC_AT),
        hash: sha256(text),
      };
    },

    next(token) {
      const { text, hash } = make(token.sessionId, token.generation + 1);
      return { text, hash, seal: seal(deriveKey(token.secret, 'successor'), text, token.sessionId) };
    },

    unseal: (token, successorSeal) => unseal(deriveKey(token.secret, 'successor'), successorSeal, token.sessionId),
  };
}

const base62 = '0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz';

/** CRC-32 in six digits of base 62: finds slips of the hand, proves nothing; the MAC does that. */
function checksum(body: string): string {
  let rest = crc32(body);
  let digits = '';
  for (let i = 0; i < CHECKSUM_LENGTH; i += 1) {
    digits = base62.charAt(rest % 62) + digits;
    rest = Math.floor(rest / 62);
  }
  return digits;
}
