import { once } from 'node:events';
import { createServer } from 'node:net';

/**
 * A free port, or the one that is asked for, held until it is released, so that nobody else is given it meanwhile. Whoever connects to it is hung up on.
 * @throws {Error} of the system's, when it is not free.
 */
export async function holdFreePort(host: string, wanted = 0): Promise<{ readonly port: number; release(): Promise<void> }> {
  const holder = createServer((socket) => socket.destroy()).listen(wanted, host);
  await once(holder, 'listening');
  const address = holder.address();
  if (address === null || typeof address === 'string') throw new Error('a TCP server has a port');
  return {
    port: address.port,
    release: () =>
      new Promise((done) => {
        holder.close(() => done());
      }),
  };
}
