import type { Socket } from 'node:net';

/** A ready answer for what is refused before Fastify sees it. */
export type WireAnswer = { status: number; reason: string; headers: Record<string, string>; body: string };

/** A refusal as the bytes of an HTTP/1.1 answer that ends its connection. */
export function asText({ status, reason, headers, body }: WireAnswer, now: number): string {
  const lines = Object.entries({
    ...headers,
    date: new Date(now).toUTCString(),
    'content-length': Buffer.byteLength(body),
    connection: 'close',
  });
  return `HTTP/1.1 ${status} ${reason}\r\n${lines.map(([name, value]) => `${name}: ${value}\r\n`).join('')}\r\n${body}`;
}

export const overTls = (socket: Socket): boolean => 'encrypted' in socket;
