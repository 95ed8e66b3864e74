import { execFileSync } from 'node:child_process';
import { once } from 'node:events';
import tls, { type TLSSocket } from 'node:tls';
import { type Program, startProgram, until, wideLimits } from '../support/program.ts';
import { findings, p99, type Scene, type Seen, timed } from './fault.ts';
import { residentMb } from './resident.ts';

/** From each address of loopback. */
const PER_ADDRESS = 1_000;
const NEWCOMERS = 200;
/** Files that the programs need beside connections. */
const SPARE = 500;

/**
 * As many idle connections as the server holds, from several addresses, over which something was asked once; then newcomers:
 * each is served, and takes the place of the one that was idle longest.
 * @param connections or as many as the limit of open files allows.
 */
export async function idleConnections(t: Scene, connections: number): Promise<Seen> {
  const found = findings();
  const bound = Math.min(connections, openFiles() - SPARE);
  const program = await startProgram(t, {
    settings: { ...wideLimits, MAX_CONNECTIONS: String(bound), MAX_CONNECTIONS_PER_ADDRESS: String(bound) },
  });
  const before = residentMb(program.pid);
  const how: How = { secureContext: tls.createSecureContext({ ca: program.ca }), session: await firstSession(program) };
  const began = performance.now();
  const idle: TLSSocket[] = [];
  t.after(() => idle.forEach((socket) => socket.destroy()));
  for (let opened = 0; opened < bound; opened += 50) {
    const batch = Array.from({ length: Math.min(50, bound - opened) }, (_, i) => {
      const from = `127.0.1.${1 + Math.floor((opened + i) / PER_ADDRESS)}`;
      return openAndAsk(program, how, from);
    });
    idle.push(...(await Promise.all(batch)));
    t.progress?.(opened, bound);
  }
  const tookS = Math.round((performance.now() - began) / 1_000);
  found.add('connections', idle.filter(({ destroyed }) => !destroyed).length);
  if (idle.some(({ destroyed }) => destroyed)) found.wrong(`one was closed before the bound was reached, which took ${tookS} s`);
  const filled = residentMb(program.pid);

  const took: number[] = [];
  const newcomers = Math.min(NEWCOMERS, Math.floor(bound / 4));
  for (let i = 0; i < newcomers; i += 1) {
    took.push(await timed(() => found.check('a newcomer', async () => void idle.push(await openAndAsk(program, how, '127.0.2.1')))));
  }
  await until(() => idle.filter(({ destroyed }) => destroyed).length >= newcomers);
  // Those of one batch became idle at about the same time, in whatever order.
  const youngest = idle.findLastIndex(({ destroyed }) => destroyed);
  if (youngest > newcomers + 50) found.wrong(`of those that were opened, number ${youngest} was closed for ${newcomers} newcomers`);
  if (idle.filter(({ destroyed }) => destroyed).length !== newcomers) found.wrong('more were closed than newcomers came');
  return found.seen({
    newcomers,
    'newcomer p99 ms': p99(took),
    'memory before MiB': before,
    'KiB a connection': Math.round(((filled - before) * 1_024) / bound),
    'memory with them MiB': filled,
  });
}

/** Sessions are resumed: an idle connection lives for a minute, in which all have to be opened. */
type How = Pick<tls.ConnectionOptions, 'secureContext' | 'session'>;

async function firstSession({ port, ca }: Program): Promise<Buffer> {
  const socket = tls.connect({ host: '127.0.0.1', port, servername: 'localhost', ca, ALPNProtocols: ['http/1.1'] });
  socket.resume();
  const [session] = (await once(socket, 'session')) as [Buffer]; // what the event brings
  socket.destroy();
  return session;
}

/** A connection over which something was asked and answered, and that says nothing more. */
async function openAndAsk({ port }: Program, how: How, localAddress: string): Promise<TLSSocket> {
  const where = { host: '127.0.0.1', port, localAddress, servername: 'localhost', ALPNProtocols: ['http/1.1'], ...how };
  const socket = tls.connect(where).on('error', () => {});
  await once(socket, 'secureConnect');
  socket.write('GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n');
  const [answer] = (await once(socket, 'data')) as [Buffer]; // a socket without an encoding gives bytes
  socket.resume();
  if (!answer.toString('latin1').startsWith('HTTP/1.1 200')) throw new Error(answer.toString('latin1'));
  return socket;
}

/** How many this process, and what it starts, may have. */
const openFiles = (): number => {
  const said = execFileSync('sh', ['-c', 'ulimit -n'], { encoding: 'utf8' }).trim();
  return said === 'unlimited' ? Infinity : Number(said);
};
