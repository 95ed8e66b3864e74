import { once } from 'node:events';
import http2 from 'node:http2';
import net from 'node:net';
import tls from 'node:tls';
import type { Answer, Program } from './program.ts';

/** An answer with its header fields as they came: in their order, and twice where they came twice. */
export type RawAnswer = Answer & { readonly fields: readonly (readonly [name: string, value: string])[] };

/**
 * Says exactly these bytes over HTTP/1.1 on a connection of its own, and waits until the server closes it: so ask for
 * `Connection: close`, as {@link head} does. `text` is everything behind the headers.
 * @param how.plain without TLS. @param how.end half-closes after the bytes.
 */
export async function speak(
  program: Pick<Program, 'port' | 'ca'>,
  bytes: string | Buffer,
  how: { plain?: boolean; end?: boolean; from?: string } = {},
): Promise<RawAnswer> {
  const where = { host: '127.0.0.1', port: program.port, ...(how.from && { localAddress: how.from }) };
  const socket = how.plain
    ? net.connect(where)
    : tls.connect({ ...where, servername: 'localhost', ca: program.ca, ALPNProtocols: ['http/1.1'] });
  const chunks: Buffer[] = [];
  socket.on('data', (chunk: Buffer) => chunks.push(chunk)).on('error', () => {}); // a reset after the answer is no matter
  socket.setTimeout(8_000, () => socket.destroy());
  socket.write(bytes);
  if (how.end) socket.end();
  await once(socket, 'close');
  return parseAnswer(Buffer.concat(chunks));
}

/** The lines of a request, up to the body. */
export const head = (method: string, target: string, fields: Readonly<Record<string, string>> = {}, host = 'localhost'): string =>
  `${method} ${target} HTTP/1.1\r\nHost: ${host}\r\nConnection: close\r\n${Object.entries(fields)
    .map(([name, value]) => `${name}: ${value}\r\n`)
    .join('')}\r\n`;

function parseAnswer(bytes: Buffer): RawAnswer {
  const end = bytes.indexOf('\r\n\r\n');
  if (end === -1) throw new Error(`no answer, but ${JSON.stringify(bytes.toString('latin1'))}`);
  const [first = '', ...lines] = bytes.subarray(0, end).toString('latin1').split('\r\n');
  const fields = lines.map((line) => [line.slice(0, line.indexOf(':')).toLowerCase(), line.slice(line.indexOf(':') + 1).trim()] as const);
  const text = bytes.subarray(end + 4).toString();
  return { status: Number(first.split(' ')[1]), headers: Object.fromEntries(fields), fields, text, json: parseJson(text) };
}

/** Asks over one HTTP/2 session, which ends with the test. */
export async function openHttp2(
  t: { after(work: () => void): void },
  program: Pick<Program, 'port' | 'ca'>,
  from?: string,
): Promise<(headers: http2.OutgoingHttpHeaders, body?: string) => Promise<Answer>> {
  const session = http2.connect(`https://localhost:${program.port}`, {
    ca: program.ca,
    ...(from && { localAddress: from }),
    lookup: (_, { all }, found) => (all ? found(null, [{ address: '127.0.0.1', family: 4 }]) : found(null, '127.0.0.1', 4)),
  });
  session.on('error', () => {});
  t.after(() => session.destroy());
  await once(session, 'connect');

  return async (headers, body) => {
    const stream = session.request(headers, { endStream: body === undefined });
    if (body !== undefined) stream.end(body);
    const [given] = (await once(stream, 'response')) as [http2.IncomingHttpHeaders & http2.IncomingHttpStatusHeader]; // what the event brings
    const chunks: Buffer[] = [];
    for await (const chunk of stream) chunks.push(chunk);
    const text = Buffer.concat(chunks).toString();
    return { status: given[':status'] ?? 0, headers: given, text, json: parseJson(text) };
  };
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined; // not JSON: `text` has it
  }
}
