import { BlockList, isIP } from 'node:net';
import { addressBlock, normaliseAddress } from './address.ts';

/** Where a request comes from. Limits count by `block`: an IPv4 address, or the /64 of an IPv6 one. */
export type ClientAddress = { readonly address: string; readonly block: string };

export const clientAddress = (text: string): ClientAddress => {
  const address = normaliseAddress(text);
  return { address, block: addressBlock(address) };
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
 * The first hop that no declared proxy vouches for, read from the right of `X-Forwarded-For`. A hop that is not an
 * address ends the walk at the last good one: what stands left of it, anyone may have written.
 */
export function forwardedAddress(peer: string, forwardedFor: string, isProxy: (address: string) => boolean): string {
  let last = peer;
  for (const hop of forwardedFor.split(',').toReversed()) {
    const address = hopAddress(hop.trim());
    if (address === undefined) return last;
    last = address;
    if (!isProxy(address)) return last;
  }
  return last;
}

/** `203.0.113.7`, `203.0.113.7:4711`, `2001:db8::1` or `[2001:db8::1]:4711`. */
function hopAddress(hop: string): string | undefined {
  const bare = /^\[([^\]]+)\](?::\d{1,5})?$/.exec(hop)?.[1] ?? /^([\d.]+):\d{1,5}$/.exec(hop)?.[1] ?? hop;
  return isIP(bare) && !bare.includes('%') ? normaliseAddress(bare) : undefined;
}
