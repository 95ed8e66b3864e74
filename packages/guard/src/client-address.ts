import { BlockList, isIP } from 'node:net';
import { addressBlock, normaliseAddress } from './address.ts';

/** Where a request comes from. Limits count by `block`: an IPv4 address, or the prefix of an IPv6 one. */
export type ClientAddress = { readonly address: string; readonly block: string };

/** @param ipv6Prefix as of {@link addressBlock}. @throws {TypeError} if the text is no address. */
export const clientAddress = (text: string, ipv6Prefix?: number): ClientAddress => {
  const address = normaliseAddress(text);
  return { address, block: addressBlock(address, ipv6Prefix) };
};

/**
 * The proxies whose word is believed, by address or CIDR block. Each family by itself: Node's own list would find an IPv4
 * address in an IPv6 block that its mapped form is in.
 * @throws {Error} naming the entry that is neither, or is everything.
 */
export function trustedProxies(list: readonly string[]): (address: string) => boolean {
  if (list.length === 0) return () => false;
  const blocks = { ipv4: new BlockList(), ipv6: new BlockList() };
  for (const entry of list) {
    const block = cidrBlock(entry);
    if (!block) throw new Error(`"${entry}" is neither an address nor a CIDR block`);
    if (block.prefix <= 0) throw new Error(`"${entry}" is every address there is`);
    blocks[block.family].addSubnet(block.address, block.prefix, block.family);
  }
  return (address) => (isIP(address) === 6 ? blocks.ipv6.check(address, 'ipv6') : blocks.ipv4.check(address, 'ipv4'));
}

/** An address is a block of one, and an IPv4-mapped block one of IPv4. A prefix of 0 or less is everything of its family; `undefined`: neither. */
export function cidrBlock(entry: string): { address: string; prefix: number; family: 'ipv4' | 'ipv6' } | undefined {
  const [, text = '', bits] = /^([^/%]+)(?:\/(\d{1,3}))?$/.exec(entry) ?? [];
  const version = isIP(text);
  const most = version === 4 ? 32 : 128;
  const prefix = bits === undefined ? most : Number(bits);
  if (!version || prefix > most) return undefined;
  const address = normaliseAddress(text);
  const family = isIP(address) === 4 ? 'ipv4' : 'ipv6';
  return { address, prefix: version === 6 && family === 'ipv4' ? prefix - 96 : prefix, family };
}

/**
 * The first hop, from the nearest on, that no declared proxy vouches for. One that cannot be told ends the walk at the last
 * good one: what stands behind it, anyone may have written.
 */
export function forwardedAddress(peer: string, hops: Iterable<string | undefined>, isProxy: (address: string) => boolean): string {
  let last = peer;
  for (const address of hops) {
    if (address === undefined) return last;
    last = address;
    if (!isProxy(address)) return last;
  }
  return last;
}
