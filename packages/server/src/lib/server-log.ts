import pino from 'pino';
import { lineSink } from './line-sink.ts';

/** What an operator must know of the server itself: JSON lines on standard error. Never anything of a request's body or headers. */
export const serverLog = pino(
  { base: null, timestamp: pino.stdTimeFunctions.isoTime, formatters: { level: (level) => ({ level }) } },
  lineSink(2, 'at once'),
);
