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
 * The proxies whose word is believed, by address or CIDR block.
 * @throws {Error} naming the entry that is neither.
 */
export function trustedProxies(list: readonly string[]): (address: string) => boolean {
  if (list.length === 0) return () => false;
  const blocks = new BlockList();
  for (const entry of list) {
    const [, address = '', bits] = /^([^/]+)(?:\/(\d{1,3}))?$/.exec(entry) ?? [];
    const version = isIP(address);
    const most = version === 4 ? 32 : 128;
    const prefix = bits === undefined ? most : Number(bits);
    if (!version || prefix > most) throw new Error(`"${entry}" is neither an address nor a CIDR block`);
    blocks.addSubnet(address, prefix, version === 4 ? 'ipv4' : 'ipv6');
  }
  return (address) => blocks.check(address, isIP(address) === 6 ? 'ipv6' : 'ipv4');
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
