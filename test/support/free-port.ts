import { createServer } from 'node:net';

/** A port of loopback that nobody has at this moment. */
export async function freePort(): Promise<number> {
  const holder = createServer().listen(0, '127.0.0.1');
  await new Promise((done) => holder.once('listening', done));
  const address = holder.address();
  await new Promise((done) => holder.close(done));
  return typeof address === 'object' && address ? address.port : 0;
}
