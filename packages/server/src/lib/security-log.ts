import { openSync } from 'node:fs';
import type { Clock, Refusal } from '@portcullis/guard';
import pino from 'pino';

/**
 * The log of suspicious acts: one JSON line each. No password, token or hash is ever handed to it, and untrusted text
 * comes bounded and escaped.
 */
export interface SecurityLog {
  /** The first refusal of a reason from an address block at once; more of the same, summed, once a minute. */
  refused(refusal: Refusal): void;
  /** An act that is on record, in the audit as well. */
  acted(act: Readonly<Record<string, unknown>>): void;
  /** Writes what a minute has summed up. */
  flush(): void;
  close(): void;
}

const MINUTE_MS = 60_000;
/** So many (reason, address block) pairs are told apart at a time; what is beyond is summed together. */
const MAX_PAIRS = 10_000;
/** Of a reader or a disk that stands still, so much is buffered; what is beyond is dropped, never waited for. */
const MAX_BUFFERED_BYTES = 8 * 1024 * 1024;

/**
 * @param on.file a path, `stdout` or `stderr`.
 * @param on.sync write each line before going on: for a process that is about to end.
 * @throws {Error} when the file cannot be opened.
 */
export function securityLog(on: { file: string; clock: Clock; sync?: boolean }): SecurityLog {
  const destination = pino.destination({
    dest: standard[on.file] ?? openSync(on.file, 'a', 0o600),
    sync: on.sync ?? false,
    maxLength: MAX_BUFFERED_BYTES,
  });
  const log = pino(
    { base: null, timestamp: () => `,"time":"${new Date(on.clock.now()).toISOString()}"`, formatters: { level: (level) => ({ level }) } },
    destination,
  );
  destination.on('error', () => {}); // a log that cannot be written must not end what it watches

  const sums = new Map<string, { code: string; block: string; count: number; since: number }>();
  const beyond = { count: 0, since: 0 };

  return {
    refused(refusal) {
      const now = on.clock.now();
      const { block } = refusal.from;
      const pair = `${refusal.code} ${block}`;
      const sum = sums.get(pair);
      if (sum) {
        sum.count += 1;
      } else if (sums.size >= MAX_PAIRS) {
        if (beyond.count === 0) beyond.since = now;
        beyond.count += 1;
      } else {
        sums.set(pair, { code: refusal.code, block, count: 0, since: now });
        log.warn({ act: 'refused', ...line(refusal) });
      }
    },

    acted: (act) => log.info(act),

    flush: () => write(MINUTE_MS),

    close() {
      write(0);
      destination.flushSync();
    },
  };

  /** Writes the sums that are so old. After a quiet minute the next refusal is a first one again. */
  function write(ageMs: number): void {
    const now = on.clock.now();
    for (const [pair, sum] of sums) {
      const { code, block, count, since } = sum;
      if (now - since < ageMs) continue;
      if (count === 0) {
        sums.delete(pair);
        continue;
      }
      log.warn({ act: 'refused', code, from: block, count, since: new Date(since).toISOString() });
      Object.assign(sum, { count: 0, since: now });
    }
    if (beyond.count === 0 || now - beyond.since < ageMs) return;
    log.warn({ act: 'refused', code: 'many', from: 'many', count: beyond.count, since: new Date(beyond.since).toISOString() });
    beyond.count = 0;
  }
}

const standard: Readonly<Record<string, number>> = { stdout: 1, stderr: 2 };

function line({ code, status, reason, from, method, route, requestId, userId, sessionId, logged }: Refusal): Record<string, unknown> {
  return { code, status, reason, address: from.address, method, route, requestId, userId, sessionId, ...logged };
}
