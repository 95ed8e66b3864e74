import { closeSync, write, writeSync } from 'node:fs';

/**
 * Where the lines of a log go. Whatever happens to the file, a full disk or a reader that stands still, it neither throws
 * nor waits for ever: a log that cannot be written must not end what it watches. (pino's own destination tries a full disk
 * again without end when it is flushed, so that a server could not be stopped.)
 */
export interface LineSink {
  write(line: string): void;
  /** Goes on in another file, which it owns from then on; the line that is being written ends where it began, and nothing is lost. */
  moveTo(fd: number): void;
  /** Bytes that are still to be written, and how many lines were lost since the start because they could not be. */
  state(): { readonly waitingBytes: number; readonly droppedLines: number };
  /** Tries once to write what is still waiting. */
  close(): void;
}

/** Of a disk or a reader that stands still, so much is kept; what is beyond is dropped. */
const MAX_WAITING = 8 * 1024 * 1024;
const AGAIN_MS = 100;

/**
 * What one call writes, in bytes, but for a line that is longer alone: PIPE_BUF of Linux. Several processes may write to one pipe, and
 * only so much goes into it in one piece (POSIX, write); a file takes any length so, where it is opened to append.
 */
const IN_ONE_PIECE = 4_096;

/** @param how `at once`: each line is written before going on, for a process that is about to end; `behind`: by and by. */
export function lineSink(first: number, how: 'at once' | 'behind'): LineSink {
  let fd = first;
  let next: number | undefined;
  const waiting: string[] = [];
  let size = 0;
  let isWriting = false;
  let dropped = 0;

  return {
    write(line) {
      if (how === 'at once') return tryToWrite(line);
      if (size + line.length > MAX_WAITING) return void (dropped += 1);
      waiting.push(line);
      size += line.length;
      if (!isWriting) put(takeWaiting());
    },
    moveTo(other) {
      if (next !== undefined) closeSync(next);
      next = other;
      if (!isWriting) move();
    },
    state: () => ({ waitingBytes: size, droppedLines: dropped }),
    close() {
      while (waiting.length > 0) tryToWrite(takeWaiting());
    },
  };

  function move(): void {
    if (next === undefined) return;
    closeSync(fd);
    [fd, next] = [next, undefined];
  }

  /** Whole lines, as many as go together. */
  function takeWaiting(): Buffer {
    let [lines, bytes] = [0, 0];
    for (const line of waiting) {
      bytes += Buffer.byteLength(line);
      if (lines > 0 && bytes > IN_ONE_PIECE) break;
      lines += 1;
      size -= line.length;
    }
    return Buffer.from(waiting.splice(0, lines).join(''));
  }

  function put(bytes: Buffer, isBegun = false): void {
    if (!isBegun) move();
    isWriting = bytes.length > 0;
    if (!isWriting) return;
    write(fd, bytes, (error, written) => {
      if (error?.code === 'EAGAIN') return void setTimeout(put, AGAIN_MS, bytes, true).unref();
      if (!error && written < bytes.length) return put(bytes.subarray(written), true);
      if (error) dropped += linesIn(bytes);
      put(takeWaiting());
    });
  }

  function tryToWrite(what: string | Buffer): void {
    try {
      writeSync(next ?? fd, Buffer.from(what));
    } catch {
      dropped += linesIn(what); // see above
    }
  }
}

const linesIn = (what: string | Buffer): number => what.toString().split('\n').length - 1;
