import { once } from 'node:events';
import { connect, constants, type ClientHttp2Session } from 'node:http2';
import { Agent, request } from 'node:https';
import net from 'node:net';
import { demoUser, logIn, type Program, startProgram, wideLimits } from '../support/program.ts';
import { findings, type Scene, type Seen } from './fault.ts';

/** What came of a request: `not sent` where the server cannot have begun with it, so that anyone may ask again elsewhere. */
type Outcome = 'answered' | 'not sent' | { readonly cut: unknown };
type LoggedIn = Awaited<ReturnType<typeof logIn>>;
type Client = { send(path: '/login' | '/protected'): Promise<Outcome>; leave(): void };

/** How long the listener stays, in every other round. */
const DELAY_MS = 400;

/** SIGTERM under load, over HTTP/1.1 and HTTP/2: no request is cut, and it ends with 0. */
export async function terminate(t: Scene, rounds: number): Promise<Seen> {
  const found = findings();
  for (let round = 0; round < rounds; round += 1) {
    const delayMs = round % 2 ? DELAY_MS : 0;
    const program = await startProgram(t, {
      settings: { ...wideLimits, SESSIONS_PER_USER: '10000', SHUTDOWN_DELAY: `${delayMs} ms` },
    });
    const [one, two] = [await logIn(program), await logIn(program)]; // devices: of strangers, not so many may try at once
    const answered = { http1: 0, http2: 0 };
    const cut: unknown[] = [];
    let endingAt = Infinity;

    const use = async (protocol: keyof typeof answered, client: Client): Promise<void> => {
      for (let i = 0; ; i += 1) {
        const outcome = await client.send(i % 4 ? '/protected' : '/login');
        if (outcome === 'answered') {
          answered[protocol] += 1;
          continue;
        }
        client.leave();
        if (outcome === 'not sent' && performance.now() > endingAt) return;
        cut.push(outcome);
        const what = outcome === 'not sent' ? outcome : JSON.stringify(outcome.cut);
        return found.wrong(`round ${round}, ${protocol}, ${Math.round(performance.now() - endingAt)} ms after SIGTERM: ${what}`);
      }
    };
    const clients = [
      ...Array.from({ length: 6 }, () => use('http1', overHttp1(program, one))),
      ...Array.from({ length: 6 }, () => use('http2', overHttp2(program, two))),
    ];
    while (cut.length === 0 && (answered.http1 < 60 || answered.http2 < 60)) await new Promise(setImmediate);
    const before = answered.http1 + answered.http2;
    const began = performance.now();
    endingAt = began;
    const closed = listenerClosed(program.port).then(() =>
      found.most('listener closed after its delay, ms', performance.now() - began - delayMs),
    );
    const code = await program.stop('SIGTERM');
    found.most('ended, slowest ms', performance.now() - began - delayMs);
    await Promise.all([...clients, closed]);
    if (code !== 0) found.wrong(`it ended with ${code}`);
    if (answered.http1 + answered.http2 === before) found.wrong('what was in flight was not answered');
    if (/"level":"(error|fatal)"/.test(program.output())) found.wrong(program.output());
    found.add('requests', answered.http1 + answered.http2);
    t.progress?.(round + 1, rounds);
  }
  return found.seen();
}

/** Done when a new connection is refused. */
async function listenerClosed(port: number): Promise<void> {
  for (;;) {
    const socket = net.connect(port, '127.0.0.1');
    const isOpen = await new Promise<boolean>((said) => socket.once('connect', () => said(true)).once('error', () => said(false)));
    socket.destroy();
    if (!isOpen) return;
    await new Promise((next) => setTimeout(next, 10));
  }
}

/** One connection at a time, kept as long as the server keeps it. */
function overHttp1({ port, ca }: Program, { access, device }: LoggedIn): Client {
  const agent = new Agent({ keepAlive: true, maxSockets: 1 });
  return {
    leave: () => agent.destroy(),
    send: (path) =>
      new Promise((resolve) => {
        let isSecure = false;
        const body = path === '/login' ? JSON.stringify({ ...demoUser, device_token: device }) : undefined;
        const sent = request(
          {
            host: '127.0.0.1',
            servername: 'localhost',
            port,
            path,
            ca,
            agent,
            method: body === undefined ? 'GET' : 'POST',
            headers: {
              host: `localhost:${port}`,
              authorization: `Bearer ${access}`,
              ...(body !== undefined && { 'content-type': 'application/json', 'content-length': String(body.length) }),
            },
          },
          (answer) => {
            answer
              .resume()
              .once('end', () => resolve(answer.statusCode === 200 ? 'answered' : { cut: answer.statusCode }))
              .once('error', (error) => resolve({ cut: error }));
          },
        );
        sent.once('socket', (socket) => {
          isSecure = sent.reusedSocket;
          if (!isSecure)
            socket.once('secureConnect', () => {
              isSecure = true;
            });
        });
        sent.once('error', (error) => resolve(isSecure ? { cut: error } : 'not sent'));
        sent.end(body);
      }),
  };
}

/** One session at a time; a stream that the server refused, or that came after its farewell, was not begun (RFC 9113 section 8.7). */
function overHttp2({ port, ca }: Program, { access, device }: LoggedIn): Client {
  let session: ClientHttp2Session | undefined;

  async function open(): Promise<ClientHttp2Session | undefined> {
    const opened = connect(`https://localhost:${port}`, { ca, host: '127.0.0.1' }).on('error', () => {});
    await once(opened, 'connect').catch(() => {});
    return opened.closed || opened.destroyed ? undefined : opened;
  }

  return {
    leave: () => session?.destroy(),
    async send(path) {
      if (!session || session.closed || session.destroyed) session = await open();
      if (!session) return 'not sent';
      const body = path === '/login' ? JSON.stringify({ ...demoUser, device_token: device }) : undefined;
      const stream = session.request({
        ':path': path,
        ':method': body === undefined ? 'GET' : 'POST',
        authorization: `Bearer ${access}`,
        ...(body !== undefined && { 'content-type': 'application/json' }),
      });
      let status: number | undefined;
      let isWhole = false;
      stream
        .on('response', (headers) => {
          status = headers[':status'];
        })
        .on('end', () => {
          isWhole = true;
        })
        .on('error', () => {})
        .resume()
        .end(body);
      await new Promise((done) => stream.once('close', done));
      if (status === 200 && isWhole) return 'answered';
      if (stream.rstCode !== constants.NGHTTP2_REFUSED_STREAM || status !== undefined) return { cut: { status, rstCode: stream.rstCode } };
      session.close();
      session = undefined;
      return this.send(path);
    },
  };
}
