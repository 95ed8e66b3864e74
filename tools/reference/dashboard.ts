/** `docs/grafana-dashboard.json`: what Grafana imports. Each panel says what it shows, in which unit, and what to make of it. */
export function grafanaDashboard(): string {
  let id = 0;
  let y = 0;
  const panels = rows.flatMap(({ title, panels }) => {
    const heading = { id: ++id, type: 'row', title, collapsed: false, gridPos: { x: 0, y: y++, w: 24, h: 1 }, panels: [] };
    let x = 0;
    const placed = panels.map((panel) => {
      const [w, h] = panel.type === 'stat' ? [4, 4] : [8, 8];
      if (x + w > 24) [x, y] = [0, y + h];
      const gridPos = { x, y, w, h };
      x += w;
      return { id: ++id, ...shown(panel), gridPos };
    });
    y += panels.at(-1)?.type === 'stat' ? 4 : 8;
    return [heading, ...placed];
  });
  const dashboard = {
    title: 'Portcullis',
    uid: 'portcullis',
    description: 'What comes in, what is refused, who logs in, and how the process is.',
    tags: ['portcullis', 'security'],
    schemaVersion: 41,
    version: 1,
    editable: true,
    graphTooltip: 1,
    refresh: '30s',
    time: { from: 'now-3h', to: 'now' },
    timezone: 'browser',
    annotations: {
      list: [
        {
          name: 'Restarts',
          enable: true,
          iconColor: 'orange',
          datasource,
          expr: `changes(process_start_time_seconds{${OF}}[$__interval]) > 0`,
          titleFormat: 'Restarted',
        },
      ],
    },
    templating: {
      list: [
        { name: 'datasource', label: 'Data source', type: 'datasource', query: 'prometheus', refresh: 1, hide: 0 },
        variable('job', 'label_values(portcullis_build_info, job)'),
        variable('instance', 'label_values(portcullis_build_info{job=~"$job"}, instance)'),
      ],
    },
    panels,
  };
  return `${JSON.stringify(dashboard, undefined, 2)}\n`;
}

/** Panels that show no metric by name would be noticed; metrics that no panel shows are named here, with the reason. */
export const notOnTheDashboard: Readonly<Record<string, string>> = {
  portcullis_access_tokens_total: 'what it costs is in the processor time, which is shown',
  nodejs_heap_size_total_bytes: 'grows and shrinks with what is used, which is shown',
};

type Panel = {
  readonly title: string;
  readonly unit: string;
  readonly says: string;
  /** PromQL, by its legend. */
  readonly shows: Readonly<Record<string, string>>;
  readonly type?: 'timeseries' | 'stat';
  readonly stacked?: boolean;
  /** From which value on it is which colour. */
  readonly colours?: readonly (readonly [from: number | null, colour: string])[];
  readonly words?: Readonly<Record<string, string>>;
};

const OF = 'job=~"$job", instance=~"$instance"';
const datasource = { type: 'prometheus', uid: '${datasource}' };
const yesNo = {
  colours: [
    [null, 'red'],
    [1, 'green'],
  ],
  words: { 0: 'no', 1: 'yes' },
} as const;

const rate = (metric: string, by = ''): string => `sum${by && ` by (${by})`} (rate(${metric}{${OF}}[$__rate_interval]))`;
const sum = (metric: string, by = ''): string => `sum${by && ` by (${by})`} (${metric}{${OF}})`;
const quantile = (share: number, metric: string, by = ''): string =>
  `histogram_quantile(${share}, sum by (le${by && `, ${by}`}) (rate(${metric}_bucket{${OF}}[$__rate_interval])))`;
const few = (metric: string, where: string, by: string): string =>
  `sum by (${by}) (increase(${metric}{${OF}${where && `, ${where}`}}[$__rate_interval])) > 0`;

const rows: readonly { readonly title: string; readonly panels: readonly Panel[] }[] = [
  {
    title: 'Now',
    panels: [
      {
        type: 'stat',
        title: 'Ready',
        unit: 'none',
        says: 'Whether every instance takes requests.',
        shows: { '': `min(portcullis_ready{${OF}})` },
        ...yesNo,
      },
      {
        type: 'stat',
        title: 'Store',
        unit: 'none',
        says: 'Whether the store could be asked. Without it nobody logs in or refreshes.',
        shows: { '': `min(portcullis_store_up{${OF}})` },
        ...yesNo,
      },
      {
        type: 'stat',
        title: 'Redis',
        unit: 'none',
        says: 'Whether it is there; while it is away each instance counts its share of every limit. And whether it is believed; else sessions are asked of the database. Empty without Redis.',
        shows: { there: `min(portcullis_redis_up{${OF}})`, believed: `min(portcullis_redis_believed{${OF}})` },
        ...yesNo,
      },
      {
        type: 'stat',
        title: 'Certificate',
        unit: 's',
        says: 'How long the certificate in use is still good.',
        shows: { '': `min(portcullis_certificate_expiry_timestamp_seconds{${OF}}) - time()` },
        colours: [
          [null, 'red'],
          [7 * 86_400, 'orange'],
          [21 * 86_400, 'green'],
        ],
      },
      {
        type: 'stat',
        title: "Certificate's files",
        unit: 'short',
        says: '1: they have changed to something that cannot be used, and the certificate of before is still served.',
        shows: { '': `max(portcullis_certificate_files_unusable{${OF}})` },
        colours: [
          [null, 'green'],
          [1, 'red'],
        ],
      },
      {
        type: 'stat',
        title: 'Living sessions',
        unit: 'short',
        says: 'Sessions that somebody could refresh now. A fall all at once is a mass logout.',
        shows: { '': sum('portcullis_sessions') },
      },
      {
        type: 'stat',
        title: 'Up for',
        unit: 's',
        says: 'Since the last start. Limits in memory start anew with it.',
        shows: { '': `time() - max(process_start_time_seconds{${OF}})` },
      },
      {
        type: 'stat',
        title: 'Running',
        unit: 'none',
        says: 'Version and Node of each instance.',
        shows: { '{{version}} on {{node}}': `count by (version, node) (portcullis_build_info{${OF}})` },
      },
    ],
  },
  {
    title: 'Traffic',
    panels: [
      {
        title: 'Requests by route',
        unit: 'reqps',
        says: 'What is asked for. (none) is paths that are none of ours, and preflights.',
        shows: { '{{method}} {{route}}': rate('portcullis_http_requests_total', 'method, route') },
        stacked: true,
      },
      {
        title: 'Requests by status',
        unit: 'reqps',
        says: '401 and 429 are the gates at work; 5xx is trouble of ours.',
        shows: { '{{status}}': rate('portcullis_http_requests_total', 'status') },
        stacked: true,
      },
      {
        title: 'Time to answer, 99 %',
        unit: 's',
        says: 'From the first gate until the answer is ready. A login takes as long as a hash.',
        shows: { '{{method}} {{route}}': quantile(0.99, 'portcullis_http_request_duration_seconds', 'method, route') },
      },
      {
        title: 'Connections',
        unit: 'short',
        says: 'Open ones by what they are at. Many that stay opening are handshakes that do not go on.',
        shows: { '{{phase}}': sum('portcullis_connections', 'phase'), 'at most': sum('portcullis_connections_limit') },
      },
      {
        title: 'New connections',
        unit: 'cps',
        says: 'Accepted. Each costs a handshake: clients that keep none open cost most.',
        shows: { accepted: rate('portcullis_connections_accepted_total') },
      },
      {
        title: 'Connections that had to make room',
        unit: 'cps',
        says: 'Closed at a bound, the longest idle first. Of one address: somebody opens many.',
        shows: { '{{bound}}': rate('portcullis_connections_evicted_total', 'bound') },
      },
    ],
  },
  {
    title: 'Refusals and limits',
    panels: [
      {
        title: 'Refusals by code',
        unit: 'reqps',
        says: 'What callers were told; the table of problems explains each code.',
        shows: { '{{code}}': `${rate('portcullis_refusals_total', 'code')} > 0` },
        stacked: true,
      },
      {
        title: 'Limits that were hit',
        unit: 'reqps',
        says: 'Which limit refused. Everyone at once: the proxy does not send X-Forwarded-For.',
        shows: { '{{rule}}': rate('portcullis_limits_hit_total', 'rule') },
        stacked: true,
      },
      {
        title: 'Counters of limits',
        unit: 'short',
        says: 'In memory. At the bound newcomers share, and may be refused early.',
        shows: { counters: sum('portcullis_limit_counters'), 'at most': sum('portcullis_limit_counters_limit') },
      },
    ],
  },
  {
    title: 'Logins and hashing',
    panels: [
      {
        title: 'Logins by outcome',
        unit: 'reqps',
        says: 'unknown_user rising: a list of names is tried. wrong_password rising: a list of passwords.',
        shows: { '{{outcome}}': rate('portcullis_logins_total', 'outcome') },
        stacked: true,
      },
      {
        title: 'Hashes',
        unit: 'ops',
        says: 'Passwords hashed, and those refused because too many waited: while that is above 0, logins fail.',
        shows: { hashed: rate('portcullis_hashes_total'), refused: rate('portcullis_hashes_refused_total') },
      },
      {
        title: 'Hash queue',
        unit: 'short',
        says: 'Being computed and waiting. Running at all threads, with some waiting, is the limit of this machine.',
        shows: {
          running: sum('portcullis_hashes_running'),
          waiting: sum('portcullis_hashes_waiting'),
          threads: sum('portcullis_hash_threads'),
        },
      },
      {
        title: 'Wait for a hash',
        unit: 's',
        says: 'How long logins stood in the queue. After two seconds they are refused.',
        shows: { '50 %': quantile(0.5, 'portcullis_hash_wait_seconds'), '99 %': quantile(0.99, 'portcullis_hash_wait_seconds') },
      },
    ],
  },
  {
    title: 'Sessions, keys, log',
    panels: [
      {
        title: 'On record',
        unit: 'short',
        says: 'Acts by the audit. refresh_replayed is a refresh token used twice: a thief, or a client that keeps an old one.',
        shows: { '{{action}}': few('portcullis_audit_entries_total', 'action!="login"', 'action') },
      },
      {
        title: 'Ended sessions that are remembered',
        unit: 'short',
        says: 'Their access tokens could still live, so each is refused by name.',
        shows: { revoked: sum('portcullis_revoked_sessions') },
      },
      {
        title: 'Keys by state',
        unit: 'short',
        says: 'Exactly one is active on each instance.',
        shows: { '{{state}}': `max by (state) (portcullis_keys{${OF}})` },
      },
      {
        title: 'Security log',
        unit: 'short',
        says: 'Lines that were lost: the disk is full, or whoever reads the log stands still.',
        shows: { 'lost lines': `sum(increase(portcullis_security_log_dropped_lines_total{${OF}}[$__rate_interval]))` },
      },
      {
        title: 'Security log, still to be written',
        unit: 'bytes',
        says: 'Near 0 unless the disk is slow. Above 8 MiB lines are lost.',
        shows: { waiting: sum('portcullis_security_log_waiting_bytes') },
      },
    ],
  },
  {
    title: 'Process',
    panels: [
      {
        title: 'CPU',
        unit: 'percentunit',
        says: 'Of one core: all threads together, and the event loop, which cannot have more than one for each worker.',
        shows: {
          'all threads': rate('process_cpu_seconds_total', 'instance'),
          'event loop': rate('portcullis_event_loop_busy_seconds_total', 'instance'),
        },
      },
      {
        title: 'Event loop, longest delay',
        unit: 's',
        says: 'Of each second, the longest wait. Above 0.1 s every answer is late.',
        shows: {
          '50 %': quantile(0.5, 'portcullis_event_loop_delay_seconds'),
          '99 %': quantile(0.99, 'portcullis_event_loop_delay_seconds'),
        },
      },
      {
        title: 'Memory',
        unit: 'bytes',
        says: 'What the process holds, and of that the objects in use. A sawtooth is well; a ramp is not.',
        shows: { resident: sum('process_resident_memory_bytes', 'instance'), heap: sum('nodejs_heap_size_used_bytes', 'instance') },
      },
      {
        title: 'Open files and sockets',
        unit: 'short',
        says: 'At the bound no connection is accepted.',
        shows: { open: sum('process_open_fds', 'instance'), 'at most': sum('process_max_fds', 'instance') },
      },
      {
        title: 'Workers',
        unit: 'short',
        says: 'Processes that serve, and how many had to be replaced. Standard error says why one ended.',
        shows: {
          '{{instance}}': sum('portcullis_workers', 'instance'),
          '{{instance}} replaced': few('portcullis_workers_replaced_total', '', 'instance'),
        },
      },
    ],
  },
];

function shown({ title, unit, says, shows, type = 'timeseries', stacked, colours = [[null, 'green']], words }: Panel) {
  const mappings = words
    ? [{ type: 'value', options: Object.fromEntries(Object.entries(words).map(([value, text], index) => [value, { text, index }])) }]
    : [];
  const lines = {
    lineWidth: 1,
    fillOpacity: stacked ? 25 : 8,
    showPoints: 'never',
    spanNulls: false,
    stacking: { mode: stacked ? 'normal' : 'none', group: 'A' },
  };
  return {
    type,
    title,
    description: says,
    datasource,
    targets: Object.entries(shows).map(([legendFormat, expr], i) => ({
      refId: String.fromCharCode(65 + i),
      datasource,
      expr,
      legendFormat: legendFormat || title,
      range: type !== 'stat',
      instant: type === 'stat',
    })),
    fieldConfig: {
      defaults: {
        unit,
        min: type === 'stat' ? undefined : 0,
        mappings,
        color: { mode: type === 'stat' ? 'thresholds' : 'palette-classic' },
        thresholds: { mode: 'absolute', steps: colours.map(([value, color]) => ({ value, color })) },
        custom: type === 'stat' ? {} : lines,
      },
      overrides: [],
    },
    options:
      type === 'stat'
        ? {
            colorMode: 'value',
            graphMode: 'none',
            justifyMode: 'auto',
            textMode: shows[''] === undefined ? 'name' : 'value',
            reduceOptions: { calcs: ['lastNotNull'], fields: '', values: false },
          }
        : { legend: { displayMode: 'list', placement: 'bottom', showLegend: true }, tooltip: { mode: 'multi', sort: 'desc' } },
  };
}

const variable = (name: string, query: string) => ({
  name,
  label: name.charAt(0).toUpperCase() + name.slice(1),
  type: 'query',
  datasource,
  definition: query,
  query: { query, refId: name },
  refresh: 2,
  includeAll: true,
  multi: true,
  allValue: '.*',
  current: { text: ['All'], value: ['$__all'] },
  sort: 1,
});
