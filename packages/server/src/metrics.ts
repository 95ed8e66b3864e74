import type { Clock } from '@portcullis/guard';
import type { AuditAction } from './domain/audit/audit.ts';
import type { KeyState } from './domain/key/key.ts';
import { problems, unanswered } from './domain/problem.ts';
import type { House } from './house.ts';
import type { WireCounts } from './http/wire.ts';
import type { CertificateStatus } from './keep-certificate.ts';
import type { EventLoop } from './lib/event-loop.ts';
import type { Family, Sample } from './lib/exposition.ts';
import { bucketsOf, type Histogram } from './lib/histogram.ts';
import { type GaugeRule, mergeFamilies } from './lib/merge-families.ts';
import { type OwnProcess, ownProcess } from './lib/own-process.ts';
import { version } from './lib/version.ts';
import type { Settings } from './settings/table.ts';

/** What `/metrics` shows of a server, and where it is counted: what asks for it here counts nothing itself. */
export type Seen = Pick<House, 'traffic' | 'tokens' | 'hashes' | 'securityLog'> & {
  readonly clock: Clock;
  /** When the process was started; worked out once, for it is to be the same at each scrape. */
  readonly startedAt: number;
  readonly settings: Settings;
  readonly wire: WireCounts;
  readonly loop: EventLoop;
  readonly keys: Readonly<Record<KeyState, number>>;
  readonly revokedSessions: number;
  readonly limitCounters: number;
  /** `undefined` where a proxy ends TLS. */
  readonly certificate: CertificateStatus | undefined;
  readonly isReady: boolean;
  readonly isStoreUp: boolean;
  /** `undefined` where there is none. */
  readonly isRedisUp: boolean | undefined;
  readonly isRedisBelieved: boolean | undefined;
  /** `undefined` when the store could not be asked. */
  readonly liveSessions: number | undefined;
  readonly own: OwnProcess;
};

/**
 * A row of the table of metrics. Names are Prometheus's: base units, `_total` on what only grows. A label takes its values
 * from our own tables, from the routes and from the settings; nothing that a sender can write is one.
 */
export type Metric = {
  readonly name: string;
  readonly help: string;
  /** What each label says. */
  readonly labels?: Readonly<Record<string, string>>;
} & (
  | { readonly type: 'counter'; read(seen: Seen): Iterable<Sample<number>> }
  /** Where several workers serve: what is shown of theirs. */
  | { readonly type: 'gauge'; readonly ofWorkers: GaugeRule; read(seen: Seen): Iterable<Sample<number>> }
  | { readonly type: 'histogram'; read(seen: Seen): Iterable<Sample<Histogram>> }
);

export const metrics: readonly Metric[] = [
  // Traffic
  {
    name: 'portcullis_http_requests_total',
    type: 'counter',
    help: 'Requests that were answered. What the wire refused before there was a request is only in portcullis_refusals_total.',
    labels: { route: 'its pattern; (none) is an unknown path, or OPTIONS', method: 'the usual ones, and "other"', status: 'of the answer' },
    *read({ traffic }) {
      for (const { route, method, statuses } of traffic.routes())
        for (const [status, value] of statuses()) yield { labels: { route, method, status: `${status}` }, value };
    },
  },
  {
    name: 'portcullis_http_request_duration_seconds',
    type: 'histogram',
    help: 'Time from the first gate until the answer was ready to be sent. A login takes as long as a hash, and its wait.',
    labels: { route: 'its pattern', method: 'as above' },
    *read({ traffic }) {
      for (const { route, method, took } of traffic.routes()) yield { labels: { route, method }, value: took };
    },
  },
  {
    name: 'portcullis_refusals_total',
    type: 'counter',
    help: 'Refusals by the code that the caller was told. A rise of token_invalid or credentials_invalid is somebody trying; internal is a fault of ours.',
    labels: { code: 'from the table of problems' },
    read: ({ traffic: { refusals } }) => by('code', withZeros([...Object.keys(problems), ...Object.keys(unanswered)], refusals.all())),
  },
  {
    name: 'portcullis_access_tokens_total',
    type: 'counter',
    help: 'Access tokens that were not seen here before and were believed, before it was asked whether their session lives. Each that is verified costs as much as several requests.',
    labels: { how: 'known (minted here, or told of in Redis by who minted it), verified (its signature was checked)' },
    read: ({ tokens }) => by('how', Object.entries(tokens.counts)),
  },
  {
    name: 'portcullis_limits_hit_total',
    type: 'counter',
    help: 'Requests that a limit refused, by the limit. Where everyone is refused at once, the proxy does not send X-Forwarded-For.',
    labels: { rule: 'the route and its limit, as in the settings' },
    read: ({ traffic: { limitsHit } }) => by('rule', limitsHit.all()),
  },
  {
    name: 'portcullis_limit_counters',
    type: 'gauge',
    ofWorkers: 'sum',
    help: 'Counters of limits in memory. At portcullis_limit_counters_limit newcomers share, and may be refused early.',
    read: ({ limitCounters }) => one(limitCounters),
  },
  {
    name: 'portcullis_limit_counters_limit',
    type: 'gauge',
    ofWorkers: 'sum',
    help: 'How many counters of limits are kept at most (PORTCULLIS_LIMIT_KEYS).',
    read: ({ settings }) => one(settings.limitKeys),
  },

  // Connections
  {
    name: 'portcullis_connections',
    type: 'gauge',
    ofWorkers: 'sum',
    help: 'Open connections. Many that are opening and stay so are handshakes that do not go on.',
    labels: { phase: 'opening (its handshake), http1, http2, leaving (told to go)' },
    read: ({ wire }) => by('phase', Object.entries(wire.open)),
  },
  {
    name: 'portcullis_connections_limit',
    type: 'gauge',
    ofWorkers: 'sum',
    help: 'How many connections are held at most (PORTCULLIS_MAX_CONNECTIONS).',
    read: ({ settings }) => one(settings.maxConnections),
  },
  {
    name: 'portcullis_connections_accepted_total',
    type: 'counter',
    help: 'Connections that were accepted.',
    read: ({ wire }) => one(wire.accepted),
  },
  {
    name: 'portcullis_connections_evicted_total',
    type: 'counter',
    help: 'Connections that were closed to make room for new ones.',
    labels: { bound: 'which one was reached: all connections, one address' },
    read: ({ wire }) => by('bound', Object.entries(wire.evicted)),
  },

  // Logins and hashing
  {
    name: 'portcullis_logins_total',
    type: 'counter',
    help: 'Logins by their outcome. Unknown users rising: a list of names is being tried; wrong passwords: one of passwords.',
    labels: { outcome: 'success, or why not' },
    read: ({ securityLog, traffic }) =>
      by('outcome', [
        ['success', securityLog.acts.of('login')],
        ...Array.from(
          withZeros(['unknown user', 'wrong password', 'disabled'], traffic.badCredentials.all()),
          ([why, count]) => [why.replaceAll(' ', '_'), count] as const,
        ),
        ...loginRefusals.map((code) => [code, traffic.refusals.of(code)] as const),
      ]),
  },
  {
    name: 'portcullis_hashes_total',
    type: 'counter',
    help: 'Passwords that were hashed, to be checked or to be stored.',
    read: ({ hashes }) => one(hashes.done().hashes),
  },
  {
    name: 'portcullis_hashes_refused_total',
    type: 'counter',
    help: 'Hashes that were refused with server_busy: too many waited, or for too long. Logins fail while this rises.',
    read: ({ hashes }) => one(hashes.done().refused),
  },
  {
    name: 'portcullis_hashes_waiting',
    type: 'gauge',
    ofWorkers: 'sum',
    help: 'Hashes that wait for a thread.',
    read: ({ hashes }) => one(hashes.waiting()),
  },
  {
    name: 'portcullis_hashes_running',
    type: 'gauge',
    ofWorkers: 'sum',
    help: 'Hashes that are being computed.',
    read: ({ hashes }) => one(hashes.running().now),
  },
  {
    name: 'portcullis_hash_threads',
    type: 'gauge',
    ofWorkers: 'sum',
    help: 'Threads that hash: so many hashes are computed at a time.',
    read: ({ hashes }) => one(hashes.running().atMost),
  },
  {
    name: 'portcullis_hash_wait_seconds',
    type: 'histogram',
    help: 'How long a hash waited for a thread. It waits two seconds at most.',
    read: ({ hashes }) => [{ value: hashes.waits }],
  },

  // Sessions, keys, certificate
  {
    name: 'portcullis_sessions',
    type: 'gauge',
    ofWorkers: 'most',
    help: 'Living sessions in the store, at most some ten seconds ago. Not there while the store cannot be asked.',
    read: ({ liveSessions }) => (liveSessions === undefined ? [] : one(liveSessions)),
  },
  {
    name: 'portcullis_revoked_sessions',
    type: 'gauge',
    ofWorkers: 'most',
    help: 'Ended sessions that are remembered because an access token of theirs could still live.',
    read: ({ revokedSessions }) => one(revokedSessions),
  },
  {
    name: 'portcullis_audit_entries_total',
    type: 'counter',
    help: 'What this process put on record. refresh_replayed: a copied refresh token was used, and its session ended.',
    labels: { action: 'of the audit; what the command line does is another process' },
    read: ({ securityLog }) => by('action', withZeros(usualActs, securityLog.acts.all())),
  },
  {
    name: 'portcullis_keys',
    type: 'gauge',
    ofWorkers: 'most',
    help: 'Signing keys by state. Exactly one is active.',
    labels: { state: 'next, active, retired, gone, compromised' },
    read: ({ keys }) => by('state', Object.entries(keys)),
  },
  {
    name: 'portcullis_certificate_expiry_timestamp_seconds',
    type: 'gauge',
    ofWorkers: 'least',
    help: 'When the certificate in use expires. Not there where a proxy ends TLS.',
    read: ({ certificate }) => (certificate ? one(certificate.expiresAt / 1_000) : []),
  },
  {
    name: 'portcullis_certificate_files_unusable',
    type: 'gauge',
    ofWorkers: 'most',
    help: 'Whether the files of the certificate have changed to something that cannot be used: the old one stays in use until it expires.',
    read: ({ certificate }) => (certificate ? one(Number(certificate.unusable.length > 0)) : []),
  },

  // Store and log
  {
    name: 'portcullis_store_up',
    type: 'gauge',
    ofWorkers: 'least',
    help: 'Whether the store could be asked just now. While it is 0, nobody logs in or refreshes.',
    read: ({ isStoreUp }) => one(Number(isStoreUp)),
  },
  {
    name: 'portcullis_redis_up',
    type: 'gauge',
    ofWorkers: 'least',
    help: 'Whether limits are counted in Redis now. While it is 0, each instance counts its share of every limit. Not there without REDIS_URL.',
    read: ({ isRedisUp }) => (isRedisUp === undefined ? [] : one(Number(isRedisUp))),
  },
  {
    name: 'portcullis_redis_believed',
    type: 'gauge',
    ofWorkers: 'least',
    help: 'Whether sessions are asked of Redis, together with the limits. While it is 0, each request asks the database. Not there without REDIS_URL.',
    read: ({ isRedisBelieved }) => (isRedisBelieved === undefined ? [] : one(Number(isRedisBelieved))),
  },
  {
    name: 'portcullis_security_log_dropped_lines_total',
    type: 'counter',
    help: 'Lines of the security log that were lost: the disk is full, or whoever reads the log stands still.',
    read: ({ securityLog }) => one(securityLog.state().droppedLines),
  },
  {
    name: 'portcullis_security_log_waiting_bytes',
    type: 'gauge',
    ofWorkers: 'sum',
    help: 'What the security log has still to write. Above 8 MiB, lines are lost.',
    read: ({ securityLog }) => one(securityLog.state().waitingBytes),
  },

  // The process, or with several workers all of them together
  {
    name: 'portcullis_workers',
    type: 'gauge',
    ofWorkers: 'sum',
    help: 'Processes that serve (PORTCULLIS_WORKERS). Fewer than there should be: one has ended and is being replaced.',
    read: () => one(1),
  },
  {
    name: 'portcullis_workers_replaced_total',
    type: 'counter',
    help: 'Workers that ended unasked and were replaced; standard error says why.',
    read: () => one(0),
  },
  {
    name: 'portcullis_ready',
    type: 'gauge',
    ofWorkers: 'most',
    help: 'Whether requests should be sent here: what /readyz says.',
    read: ({ isReady }) => one(Number(isReady)),
  },
  {
    name: 'portcullis_build_info',
    type: 'gauge',
    ofWorkers: 'most',
    help: 'Always 1; its labels say what is running.',
    labels: { version: 'of Portcullis', node: 'of Node' },
    read: () => [{ labels: { version, node: process.version }, value: 1 }],
  },
  {
    name: 'portcullis_event_loop_delay_seconds',
    type: 'histogram',
    help: 'Of each second, the longest that anything had to wait for its turn. Above 0.1, every answer is late.',
    read: ({ loop }) => [{ value: loop.delays }],
  },
  {
    name: 'portcullis_event_loop_busy_seconds_total',
    type: 'counter',
    help: 'Time that the event loop worked; its rate is its utilisation. At 1 for each worker, the core that it runs on is used up.',
    read: ({ loop }) => one(loop.busySeconds()),
  },
  {
    name: 'process_cpu_seconds_total',
    type: 'counter',
    help: 'CPU time of the process with all its threads, user and system.',
    read: ({ own }) => one(own.cpuSeconds),
  },
  {
    name: 'process_resident_memory_bytes',
    type: 'gauge',
    ofWorkers: 'sum',
    help: 'Memory that the process holds.',
    read: ({ own }) => one(own.residentBytes),
  },
  {
    name: 'nodejs_heap_size_used_bytes',
    type: 'gauge',
    ofWorkers: 'sum',
    help: 'Of that, JavaScript objects.',
    read: ({ own }) => one(own.heapUsedBytes),
  },
  {
    name: 'nodejs_heap_size_total_bytes',
    type: 'gauge',
    ofWorkers: 'sum',
    help: 'The heap that they lie in.',
    read: ({ own }) => one(own.heapTotalBytes),
  },
  {
    name: 'process_open_fds',
    type: 'gauge',
    ofWorkers: 'sum',
    help: 'Open files and sockets. Linux only.',
    read: ({ own }) => (own.openFiles === undefined ? [] : one(own.openFiles)),
  },
  {
    name: 'process_max_fds',
    type: 'gauge',
    ofWorkers: 'sum',
    help: 'How many there may be at most. Linux only.',
    read: ({ own }) => (own.maxFiles === undefined ? [] : one(own.maxFiles)),
  },
  {
    name: 'process_start_time_seconds',
    type: 'gauge',
    ofWorkers: 'least',
    help: 'When the process was started. A change is a restart, and limits in memory start anew with it.',
    read: ({ startedAt }) => one(Math.round(startedAt / 1_000)),
  },
];

/** What a server's own acts are, from the start on: a counter that appears with its first act would hide that from `increase`. */
const usualActs: readonly AuditAction[] = ['login', 'logout', 'refresh_replayed', 'sessions_ended'];

/** What a login is refused with before a password is looked at, beside limits. */
const loginRefusals = ['too_many_attempts', 'server_busy'] as const satisfies readonly (keyof typeof problems)[];

/** Everything of the table, as it stands. */
export function readMetrics(seen: Omit<Seen, 'own'>): Family[] {
  const all = { ...seen, own: ownProcess() };
  return metrics.map(({ name, help, ...metric }): Family =>
    metric.type === 'histogram'
      ? {
          name,
          help,
          type: metric.type,
          samples: Array.from(metric.read(all), ({ labels = {}, value }) => ({ labels, value: bucketsOf(value) })),
        }
      : { name, help, type: metric.type, samples: [...metric.read(all)] },
  );
}

/** Those of several workers as one, see {@link Metric}. */
export const mergeMetrics = (all: readonly (readonly Family[])[]): Family[] => mergeFamilies(all, (name) => gaugeRules.get(name) ?? 'sum');

const gaugeRules = new Map(metrics.flatMap((metric) => (metric.type === 'gauge' ? [[metric.name, metric.ofWorkers] as const] : [])));

const ASK_AGAIN_MS = 10_000;

/**
 * Remembers what is costly to find out: for ten seconds, and a thousand times as long as it took, so that asking never
 * takes more than a thousandth of the time. `undefined` when it could not be found out.
 */
export function atLeisure<T>(clock: Clock, ask: () => Promise<T>): () => Promise<T | undefined> {
  let known: T | undefined;
  let until = 0;
  return async () => {
    const began = clock.now();
    if (began < until) return known;
    until = began + ASK_AGAIN_MS; // whoever asks meanwhile gets what was known
    try {
      known = await ask();
      until = Math.max(until, began + (clock.now() - began) * 1_000);
    } catch {
      [known, until] = [undefined, 0];
    }
    return known;
  };
}

const one = (value: number): Sample<number>[] => [{ value }];

const by = (label: string, counts: Iterable<readonly [string, number]>): Sample<number>[] =>
  Array.from(counts, ([name, value]) => ({ labels: { [label]: name }, value }));

const withZeros = (names: readonly string[], counts: Iterable<readonly [string, number]>): Map<string, number> =>
  new Map([...names.map((name) => [name, 0] as const), ...counts]);
