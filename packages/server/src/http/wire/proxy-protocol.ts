import { isIPv4, isIPv6 } from 'node:net';

/** What a PROXY header says. */
export type ProxyHeader = {
  /** Who connected to the proxy; `undefined` where it speaks for itself, or cannot say. */
  readonly address: string | undefined;
  /** Whether he did so over TLS, as version 2 may say in its SSL part. */
  readonly encrypted: boolean;
  /** So many bytes are the header; what follows is the client's. */
  readonly length: number;
};

/**
 * Reads the header of the PROXY protocol, version 1 or 2, that a proxy sends before anything else (The PROXY protocol,
 * HAProxy Technologies, sections 2.1 and 2.2).
 * @param bytes what has come so far. At most {@link MOST_BYTES} are ever waited for.
 * @returns `more` while it is not complete, or why it is none.
 */
export function readProxyHeader(bytes: Buffer): ProxyHeader | 'more' | { readonly wrong: string } {
  if (startsAlike(bytes, SIGNATURE)) return bytes.length < FIXED ? 'more' : readBinary(bytes);
  if (startsAlike(bytes, WORD)) return readText(bytes);
  return { wrong: 'does not begin with a PROXY header' };
}

/** Of the two versions: a header longer than that is refused. Those that are seen have 28 to some 300. */
const MOST_BYTES = 4_096;

const SIGNATURE = Buffer.from('\r\n\r\n\0\r\nQUIT\n', 'latin1');
const WORD = Buffer.from('PROXY ');

const startsAlike = (bytes: Buffer, start: Buffer): boolean => {
  const known = Math.min(bytes.length, start.length);
  return bytes.subarray(0, known).equals(start.subarray(0, known));
};

/** The longest line of version 1, with its end. */
const LONGEST_LINE = 107;

function readText(bytes: Buffer): ReturnType<typeof readProxyHeader> {
  const text = bytes.subarray(0, LONGEST_LINE).toString('latin1');
  const end = text.indexOf('\r\n');
  if (end === -1) return bytes.length < LONGEST_LINE ? 'more' : { wrong: 'PROXY header: the line has no end' };
  const length = end + 2;
  const line = text.slice(0, end);
  const [, family = '', ...words] = line.split(' ');
  if (family === 'UNKNOWN') return { address: undefined, encrypted: false, length };
  const isAddress = families.get(family);
  const [source = '', destination = '', ...ports] = words;
  const isRight = isAddress?.(source) && isAddress(destination) && ports.length === 2 && ports.every(isPort) && !line.includes('%');
  return isRight ? { address: source, encrypted: false, length } : { wrong: 'PROXY header: the line is malformed' };
}

const families = new Map([
  ['TCP4', isIPv4],
  ['TCP6', isIPv6],
]);

const isPort = (text: string): boolean => /^(?:0|[1-9]\d{0,4})$/.test(text) && Number(text) <= 65_535;

/** Signature, version and command, family and protocol, length of the rest. */
const FIXED = 16;

/** Bytes of a pair of addresses with their ports, by family: unspecified, IPv4, IPv6, Unix. */
const ADDRESSES = [0, 12, 36, 216];

function readBinary(bytes: Buffer): ReturnType<typeof readProxyHeader> {
  const [version, command] = nibbles(bytes.readUInt8(12));
  const [family, protocol] = nibbles(bytes.readUInt8(13));
  const length = FIXED + bytes.readUInt16BE(14);
  if (version !== 2 || command > 1) return { wrong: 'PROXY header: unknown version or command' };
  if (length > MOST_BYTES) return { wrong: 'PROXY header: too long' };
  if (bytes.length < length) return 'more';

  const isLocal = command === 0;
  const addressEnd = FIXED + (isLocal ? 0 : (ADDRESSES[family] ?? Infinity));
  if (!isLocal && (protocol > 2 || addressEnd > length)) return { wrong: 'PROXY header: unknown family, or too short for it' };
  // A proxy that speaks for itself, or for what it has no name for: whatever else stands there is passed over.
  if (isLocal || family === 0 || protocol === 0) return { address: undefined, encrypted: false, length };

  const parts = readParts(bytes.subarray(addressEnd, length));
  if (!parts) return { wrong: 'PROXY header: its parts do not fill it' };
  if (parts.has(CRC32C) && !isChecked(bytes.subarray(0, length), parts.get(CRC32C))) return { wrong: 'PROXY header: wrong checksum' };
  return { address: sources[family]?.(bytes), encrypted: saysSsl(parts.get(SSL)), length };
}

const nibbles = (byte: number): [high: number, low: number] => [byte >> 4, byte & 15];

const sources: readonly (((bytes: Buffer) => string) | undefined)[] = [
  undefined,
  (bytes) => bytes.subarray(FIXED, FIXED + 4).join('.'),
  (bytes) => Array.from({ length: 8 }, (_, i) => bytes.readUInt16BE(FIXED + 2 * i).toString(16)).join(':'),
  undefined, // a path of a machine that is not ours
];

/** Section 2.2.7 calls them TLVs: a byte of type, two of length, so many bytes. Each type once; `undefined` where they are not whole. */
function readParts(bytes: Buffer): ReadonlyMap<number, Buffer> | undefined {
  const parts = new Map<number, Buffer>();
  for (let at = 0; at < bytes.length;) {
    if (bytes.length - at < 3) return undefined;
    const [type, end] = [bytes.readUInt8(at), at + 3 + bytes.readUInt16BE(at + 1)];
    if (end > bytes.length || (parts.has(type) && isRead(type))) return undefined;
    parts.set(type, bytes.subarray(at + 3, end));
    at = end;
  }
  return parts;
}

const CRC32C = 0x03;
const SSL = 0x20;
const isRead = (type: number): boolean => type === SSL || type === CRC32C;

/** Its first byte is PP2_CLIENT_SSL and more; four of the verification's result follow. */
const saysSsl = (part: Buffer | undefined): boolean => part !== undefined && part.length >= 5 && (part.readUInt8(0) & 1) === 1;

/** Section 2.2.4: over the whole header, with zeros in its own place. */
function isChecked(header: Buffer, sum: Buffer | undefined): boolean {
  if (sum?.length !== 4) return false;
  const zeroed = Buffer.from(header);
  zeroed.fill(0, sum.byteOffset - header.byteOffset, sum.byteOffset - header.byteOffset + 4);
  return crc32c(zeroed) === sum.readUInt32BE(0);
}

/** RFC 3720 appendix B.4; the polynomial with its bits in reverse. */
function crc32c(bytes: Uint8Array): number {
  let crc = ~0;
  for (const byte of bytes) {
    crc ^= byte;
    for (let bit = 0; bit < 8; bit++) crc = (crc >>> 1) ^ (crc & 1 ? 0x82f63b78 : 0);
  }
  return ~crc >>> 0;
}
