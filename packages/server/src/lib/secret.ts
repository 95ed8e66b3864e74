import { randomBytes as bytes } from 'node:crypto';

/** `n` bytes from the operating system's generator. */
export function randomBytes(n: number): Buffer {
  return bytes(n);
}
