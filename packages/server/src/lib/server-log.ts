import pino from 'pino';

/** What an operator must know of the server itself: JSON lines on standard error. Never anything of a request's body or headers. */
export const serverLog = pino(
  { base: null, timestamp: pino.stdTimeFunctions.isoTime, formatters: { level: (level) => ({ level }) } },
  pino.destination({ dest: 2, sync: true }),
);
