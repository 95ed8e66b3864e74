import { randomUUIDv7 } from 'node:crypto';

const prefixes = { user: 'usr_', session: 'ses_', audit: 'aud_', token: 'tok_', instance: 'ins_' } as const;

/** A new id: the noun's prefix and a UUIDv7 as 32 hexadecimal digits, so that ids sort by the time they were made. */
export const newId = (noun: keyof typeof prefixes): string => prefixes[noun] + randomUUIDv7().replaceAll('-', '');

/** The 16 bytes behind a session's id, for the refresh token that carries them. */
export const sessionIdBytes = (id: string): Buffer => Buffer.from(id.slice(prefixes.session.length), 'hex');
export const sessionIdOf = (bytes: Uint8Array): string => prefixes.session + Buffer.from(bytes).toString('hex');
