import { BlockList, isIPv6 } from 'node:net';

const loopback = new BlockList();
loopback.addSubnet('127.0.0.0', 8);
loopback.addAddress('::1', 'ipv6');

/** Whether only this machine can be meant: by its address, or by the name that every machine has for itself. */
export const isLoopback = (host: string): boolean => host === 'localhost' || loopback.check(host, isIPv6(host) ? 'ipv6' : 'ipv4');
