import { randomFillSync } from 'node:crypto';

/** A request's id: a random UUID (RFC 9562, version 4), sent as `X-Request-Id` and as `instance` (`urn:uuid:…`) of a problem. */
export function newRequestId(): string {
  if (next === MANY) makeMany();
  return made.slice(next * LENGTH, ++next * LENGTH);
}

/** Made at once, as one text that each is cut from: `randomUUID` puts each together from twenty pieces, on the way of every request. */
const MANY = 128;
const LENGTH = 36;
let made = '';
let next = MANY;

const random = Buffer.alloc(MANY * 16);
const text = Buffer.alloc(MANY * LENGTH);
const digits = Buffer.from('0123456789abcdef');
const DASH = 0x2d;

function makeMany(): void {
  randomFillSync(random);
  let at = 0;
  for (let i = 0; i < random.length; i += 1) {
    const place = i % 16;
    if (place === 4 || place === 6 || place === 8 || place === 10) text[at++] = DASH;
    let byte = random[i]!;
    if (place === 6) byte = 0x40 | (byte & 0x0f); // the version
    if (place === 8) byte = 0x80 | (byte & 0x3f); // the variant
    text[at++] = digits[byte >> 4]!;
    text[at++] = digits[byte & 0x0f]!;
  }
  made = text.toString('latin1');
  next = 0;
}

const uuid = /^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$/i;

export const isRequestId = (text: string): boolean => uuid.test(text);
