import { isIP } from 'node:net';

/**
 * One spelling for each address: IPv4 as it is, IPv4-mapped IPv6 as its IPv4, other IPv6 as RFC 5952 writes it,
 * without a zone id.
 * @throws {TypeError} if the text is not an address as `node:net` reads it.
 */
export function normaliseAddress(text: string): string {
  const version = isIP(text);
  if (version === 4) return text;
  if (version === 0) throw new TypeError('not an IP address');
  const groups = groupsOf(text);
  return isMapped(groups) ? dotted(groups) : written(groups);
}

/**
 * What one subscriber holds, and so what limits count by: a whole IPv4 address, the prefix of an IPv6 one.
 * @param address as `normaliseAddress` gives it.
 * @param ipv6Prefix in bits, from 1 to 128. A subscriber holds a /64 at least (RFC 6177 section 2), hence the default.
 */
export function addressBlock(address: string, ipv6Prefix = 64): string {
  if (!address.includes(':')) return address;
  return `${written(groupsOf(address).map((group, i) => group & leadingOnes(ipv6Prefix - 16 * i)))}/${ipv6Prefix}`;
}

/** A group whose first bits are set, so many of them. */
const leadingOnes = (bits: number): number => (0xffff << (16 - Math.min(Math.max(bits, 0), 16))) & 0xffff;

/** The eight 16-bit groups of a valid IPv6 address. */
function groupsOf(address: string): number[] {
  const [bare = ''] = address.split('%', 1);
  const hexOnly = bare.replace(/(\d+)\.(\d+)\.(\d+)\.(\d+)$/, (_, a, b, c, d) => `${hex(+a * 256 + +b)}:${hex(+c * 256 + +d)}`);
  const [head = [], tail] = hexOnly.split('::').map((half) => (half === '' ? [] : half.split(':').map((group) => parseInt(group, 16))));
  return tail ? [...head, ...Array<number>(8 - head.length - tail.length).fill(0), ...tail] : head;
}

/** ::ffff:0:0/96, RFC 4291 section 2.5.5.2. */
const isMapped = (groups: number[]) => groups[5] === 0xffff && groups.slice(0, 5).every((group) => group === 0);

const dotted = (groups: number[]) =>
  groups
    .slice(6)
    .flatMap((group) => [group >> 8, group & 255])
    .join('.');

/** RFC 5952 section 4: lower case, no leading zeros, `::` for the longest run of two or more zero groups, the first of equals. */
function written(groups: number[]): string {
  let [from, length] = [0, 1];
  for (let at = 0; at < 8; at++) {
    let end = at;
    while (groups[end] === 0) end++;
    if (end - at > length) [from, length] = [at, end - at];
  }
  const text = groups.map(hex);
  return length > 1 ? `${text.slice(0, from).join(':')}::${text.slice(from + length).join(':')}` : text.join(':');
}

const hex = (group: number) => group.toString(16);
