import { serverLog } from './lib/server-log.ts';

/** After a fault that nobody caught, nothing in this process can be relied on: it is written down, and the process ends. */
export function dieOfFaults(lastWords: () => void): void {
  const die = (error: unknown): void => {
    try {
      serverLog.fatal({ err: error }, 'a fault: the process ends');
      lastWords();
    } finally {
      process.exit(1);
    }
  };
  process.on('uncaughtException', die);
  process.on('unhandledRejection', die);
}
