import { isPostgresHere } from '../support/postgres.ts';
import type { Fault } from './fault.ts';
import { killServer } from './kill-server.ts';
import { terminate } from './terminate.ts';

/** A fault, how often it is made, and what must hold. */
export type Row = {
  readonly no: number;
  readonly fault: string;
  readonly rounds: number;
  /** In words; that nothing is found wrong is always part of it. */
  readonly bar: string;
  readonly make: Fault;
  /** Figures of time and memory, which only the machine that is measured can be held to: none may be greater. */
  readonly within?: Readonly<Record<string, number>>;
  /** Why it cannot be made here. */
  readonly missing?: () => string | undefined;
};

const postgres = (): string | undefined => (isPostgresHere ? undefined : 'PostgreSQL is not here');

const keptPromises = 'no logout undone, no used refresh token usable, no session lost; ready in 2 s';

export const rows: readonly Row[] = [
  {
    no: 1,
    fault: 'kill -9 of the server under load, SQLite',
    rounds: 100,
    bar: keptPromises,
    within: { 'ready again, slowest ms': 2_000 },
    make: (t, rounds) => killServer(t, rounds, { store: 'sqlite', grace: '5 minutes' }),
  },
  {
    no: 1,
    fault: 'the same without a grace for refresh tokens',
    rounds: 50,
    bar: keptPromises,
    within: { 'ready again, slowest ms': 2_000 },
    make: (t, rounds) => killServer(t, rounds, { store: 'sqlite', grace: '0' }),
  },
  {
    no: 1,
    fault: 'kill -9 of the server under load, PostgreSQL',
    rounds: 100,
    bar: keptPromises,
    within: { 'ready again, slowest ms': 2_000 },
    missing: postgres,
    make: (t, rounds) => killServer(t, rounds, { store: 'postgres', grace: '5 minutes' }),
  },
  {
    no: 2,
    fault: 'SIGTERM under load',
    rounds: 50,
    bar: 'no request cut; ends with 0 within 10 s; the listener closes with SHUTDOWN_DELAY',
    within: { 'ended, slowest ms': 10_000, 'listener closed after its delay, ms': 100 },
    make: terminate,
  },
];
