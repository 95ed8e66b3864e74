import type { IncomingHttpHeaders } from 'node:http';
import { isIP, isIPv4, isIPv6 } from 'node:net';
import { normaliseAddress } from './address.ts';
import { forwardedElements } from './forwarded.ts';

/** The one header in which declared proxies tell who asks. Whatever else of that kind a request has is not looked at. */
export type TrustedProxyHeader = 'x-forwarded-for' | 'forwarded';

/** How such a header is read. A field that came in several lines is one list, in their order (RFC 9110 section 5.3): so Node joins it. */
export type Forwarding = {
  /** From whom the request came, the nearest first. `undefined` is a hop that cannot be told. */
  hops(headers: IncomingHttpHeaders): Iterable<string | undefined>;
  /** Does the nearest hop, who is a declared proxy, say that he was asked over https? */
  isHttps(headers: IncomingHttpHeaders): boolean;
};

export const forwardings: Readonly<Record<TrustedProxyHeader, Forwarding>> = {
  'x-forwarded-for': {
    *hops(headers) {
      const field = joined(headers['x-forwarded-for']);
      for (let end = field.length; end >= 0;) {
        const comma = end === 0 ? -1 : field.lastIndexOf(',', end - 1);
        yield plainHop(field.slice(comma + 1, end).trim());
        end = comma;
      }
    },
    isHttps: (headers) => headers['x-forwarded-proto'] === 'https',
  },
  forwarded: {
    *hops(headers) {
      for (const element of forwardedElements(joined(headers.forwarded))) yield node(element?.get('for'));
    },
    isHttps: (headers) => forwardedElements(joined(headers.forwarded)).next().value?.get('proto') === 'https',
  },
};

const joined = (field: string | readonly string[] = ''): string => (typeof field === 'string' ? field : field.join(','));

/** `203.0.113.7`, `203.0.113.7:4711`, `2001:db8::1` or `[2001:db8::1]:4711`: nobody ever wrote down what may stand here. */
function plainHop(hop: string): string | undefined {
  const bare = /^\[([^\]]+)\](?::\d{1,5})?$/.exec(hop)?.[1] ?? /^([\d.]+):\d{1,5}$/.exec(hop)?.[1] ?? hop;
  return isIP(bare) && !bare.includes('%') ? normaliseAddress(bare) : undefined;
}

/** RFC 7239 section 6: an address with an optional port, IPv6 in brackets; `unknown` and `_hidden` tell none. */
function node(text = ''): string | undefined {
  const [, v4 = '', v6 = ''] = /^(?:([\d.]+)|\[([\da-f:.]+)\])(?::(?:\d{1,5}|_[\w.-]+))?$/i.exec(text) ?? [];
  return isIPv4(v4) || isIPv6(v6) ? normaliseAddress(v4 || v6) : undefined;
}
