import { existsSync } from 'node:fs';
import { isFaketimeHere } from '../support/faketime.ts';
import { isPostgresHere } from '../support/postgres.ts';
import { isRedisHere } from '../support/redis.ts';
import { clockMoves } from './clock.ts';
import { clockSkew } from './clock-skew.ts';
import { cutAnswers } from './cut-answers.ts';
import { diskFull, whyNoDisk } from './disk-full.ts';
import type { Fault } from './fault.ts';
import { idleConnections } from './idle-connections.ts';
import { killRedis } from './kill-redis.ts';
import { killServer } from './kill-server.ts';
import { lockout } from './lockout.ts';
import { loginFlood } from './login-flood.ts';
import { loseRedis } from './lose-redis.ts';
import { restartPostgres } from './restart-postgres.ts';
import { revokeElsewhere } from './revoke-elsewhere.ts';
import { rollingRestart } from './rolling-restart.ts';
import { slowRedis } from './slow-redis.ts';
import { terminate } from './terminate.ts';

/** A fault, how often it is made, and what must hold. */
export type Row = {
  readonly no: number;
  readonly fault: string;
  readonly rounds: number;
  /** In words. What `make` finds wrong breaks it, and so does a figure beyond `within`. */
  readonly bar: string;
  readonly make: Fault;
  /** By the name of a figure, what it may be at most: of time and memory, and so never judged in `npm test`. */
  readonly within?: Readonly<Record<string, number>>;
  /** What it cannot be made without; why it is missing, where it is. */
  readonly needs?: readonly (() => string | undefined)[];
};

const has = (what: string, isHere: boolean) => (): string | undefined => (isHere ? undefined : `${what} is not here`);
const postgres = has('PostgreSQL', isPostgresHere);
export const stores = [postgres, has('Redis', isRedisHere)];
const faketime = has('libfaketime', isFaketimeHere);
const haproxy = has('HAProxy', existsSync('/usr/sbin/haproxy'));

const readyAgain = { 'ready again, slowest ms': 2_000 };
const sharedAgain = { 'limits shared again, slowest ms': 1_000 };
const kept = 'no logout undone, no used refresh token usable, no session lost; ready in 2 s';
const neverOpen = 'answers within the second that is set for Redis; none by a session that has ended; nobody waits after 3 s; no lag, no pile-up';

/** What is the same for each way in which Redis is not heard of. */
const unheard = (...ways: readonly string[]): Record<string, number> => ({
  ...Object.fromEntries(ways.flatMap((way) => [[`${way}: slowest ms`, 1_050], [`${way}: at once after ms`, 3_000]])),
  'memory more, MiB': 50,
  'seconds with a lag of over 50 ms': 0,
  ...sharedAgain,
});

export const rows: readonly Row[] = [
  { no: 1, fault: 'kill -9 of the server under load, SQLite', rounds: 100, bar: kept, within: readyAgain, make: (t, rounds) => killServer(t, rounds, { store: 'sqlite', grace: '5 minutes' }) },
  { no: 1, fault: 'the same without a grace for refresh tokens', rounds: 50, bar: kept, within: readyAgain, make: (t, rounds) => killServer(t, rounds, { store: 'sqlite', grace: '0' }) },
  { no: 1, fault: 'kill -9 of the server under load, PostgreSQL', rounds: 100, bar: kept, within: readyAgain, needs: [postgres], make: (t, rounds) => killServer(t, rounds, { store: 'postgres', grace: '5 minutes' }) },
  { no: 2, fault: 'SIGTERM under load', rounds: 50, bar: 'no request cut; ends with 0 within 10 s; the listener closes within 100 ms of SHUTDOWN_DELAY', within: { 'ended, slowest ms': 10_000, 'listener closed after its delay, ms': 100 }, make: terminate },
  { no: 3, fault: 'kill -9 of Redis under load', rounds: 50, bar: 'as 1; ended sessions stay ended; never more than a limit and a share of it; shared again in 1 s', within: sharedAgain, needs: stores, make: killRedis },
  { no: 4, fault: 'Redis forgets: FLUSHALL, failover to an empty replica', rounds: 20, bar: 'no ended session believed; limits start anew', needs: stores, make: loseRedis },
  { no: 5, fault: 'Redis slow by 200 ms and 2 s, stalled, stopped', rounds: 1_000, bar: `p99 within the delay and 50 ms; beyond: ${neverOpen}`, within: { '200 ms: p99 ms': 250, ...unheard('2 s', 'stalled', 'SIGSTOP') }, needs: stores, make: (t, rounds) => slowRedis(t, rounds, ['200 ms', '2 s', 'stalled', 'SIGSTOP']) },
  { no: 6, fault: "Redis's answers cut in their middle", rounds: 10_000, bar: 'no answer taken for another; nobody let in who was not to be', needs: stores, make: cutAnswers },
  { no: 7, fault: 'PostgreSQL halted at once, and kill -9, under load', rounds: 20, bar: 'no answered write lost; errors only 503 with Retry-After; healthy in 2 s', within: { 'healthy again, slowest ms': 2_000 }, needs: [postgres], make: restartPostgres },
  { no: 8, fault: 'disk full, of the store and the log', rounds: 10, bar: '503; nothing answered that is not on record; well by itself when there is room', needs: [whyNoDisk], make: diskFull },
  { no: 10, fault: 'the clock set back and forward by an hour, and standing still; SQLite', rounds: 5, bar: 'no token lives longer; no limit refuses for longer than a window', needs: [faketime], make: (t, rounds) => clockMoves(t, rounds, 'sqlite') },
  { no: 10, fault: 'the same on PostgreSQL, whose time counts', rounds: 5, bar: 'no token lives longer or shorter; no limit refuses for longer than a window', needs: [faketime, postgres], make: (t, rounds) => clockMoves(t, rounds, 'postgres') },
  { no: 11, fault: 'two instances whose clocks are 30 s apart', rounds: 100, bar: 'tokens of one taken by the other; ended sessions refused; limits exact', needs: [faketime, ...stores], make: (t, rounds) => clockSkew(t, rounds, 30) },
  { no: 12, fault: 'idle connections up to the bound, then newcomers', rounds: 10_000, bar: 'newcomers served, p99 100 ms; those idle longest go; 300 MiB', within: { 'newcomer p99 ms': 100, 'memory with them MiB': 300 }, make: idleConnections },
  { no: 13, fault: '200 logins at once, beside token checks', rounds: 20, bar: 'token check p99 50 ms; as many logins wait as may, 503 beyond', within: { 'token check p99 ms': 50 }, make: loginFlood },
  { no: 15, fault: 'two instances restarted in turn behind HAProxy, a new key in between', rounds: 50_000, bar: 'no request fails; no token refused before its end', needs: [haproxy, ...stores], make: (t, rounds) => rollingRestart(t, rounds) },
  { no: 17, fault: 'ended on one instance, in flight on the other', rounds: 1_000, bar: 'no request let in that began after the answer to the logout', needs: stores, make: revokeElsewhere },
  { no: 18, fault: 'a locked name, over kill -9 and restart; SQLite', rounds: 20, bar: 'locked still', make: (t, rounds) => lockout(t, rounds, 'sqlite') },
  { no: 18, fault: 'the same on PostgreSQL', rounds: 20, bar: 'locked still', needs: [postgres], make: (t, rounds) => lockout(t, rounds, 'postgres') },
  { no: 20, fault: 'a partition from Redis, one way and the other', rounds: 1_000, bar: neverOpen, within: unheard('nothing gets there', 'nothing comes back'), needs: stores, make: (t, rounds) => slowRedis(t, rounds, ['nothing gets there', 'nothing comes back']) },
];
