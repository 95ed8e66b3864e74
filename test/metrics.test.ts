import assert from 'node:assert/strict';
import { rmSync } from 'node:fs';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import { setTimeout as wait } from 'node:timers/promises';
import tls from 'node:tls';
import { problems, unanswered } from '../packages/server/src/domain/problem.ts';
import { metrics } from '../packages/server/src/metrics.ts';
import { open } from '@portcullis/guard';
import { openApp } from './support/house.ts';
import { type Ask, demoUser, logIn, type Program, sharedProgram, startProgram, wideLimits } from './support/program.ts';
import { askAdmin, parseExposition, type Scrape, scrape } from './support/scrape.ts';
import { head, openHttp2, speak } from './support/speak.ts';

const withAdmin = { ADMIN_LISTEN: '127.0.0.1:0' };

/** What is counted of requests, as lines: `POST /login 200` → how often. */
const requestsOf = ({ samples }: Scrape): Record<string, number> =>
  Object.fromEntries(
    samples
      .filter(({ name }) => name === 'portcullis_http_requests_total')
      .map(({ labels, value }) => [`${labels.method} ${labels.route} ${labels.status}`, value]),
  );

const countsBy = ({ samples }: Scrape, metric: string, label: string): Record<string, number> =>
  Object.fromEntries(
    samples.filter(({ name, value }) => name === metric && value > 0).map(({ labels, value }) => [labels[label] ?? '', value]),
  );

/** An answer reaches its reader a moment before the last of it is counted. */
async function until(program: Program, isSo: (found: Scrape) => void): Promise<void> {
  for (let tries = 0; ; tries++) {
    try {
      return isSo(await scrape(program));
    } catch (error) {
      if (tries === 20) throw error;
      await wait(50);
    }
  }
}

test('after mixed traffic the numbers are exactly what was sent', async (t) => {
  const program = await startProgram(t, { settings: { ...wideLimits, ...withAdmin, PROTECTED_LIMITS: '20 per hour by ip' } });
  const requests: Record<string, number> = {};
  const refusals: Record<string, number> = {};
  const note = (what: string, { status, json }: { status: number; json?: any }): void => {
    requests[`${what} ${status}`] = (requests[`${what} ${status}`] ?? 0) + 1;
    if (json?.code) refusals[json.code] = (refusals[json.code] ?? 0) + 1;
  };
  const ask = async (method: string, path: string, route: string, options: Ask = {}): Promise<any> => {
    const answer = await program.ask(method, path, options);
    note(`${method} ${route}`, answer);
    return answer.json;
  };

  const { access_token: access, refresh_token: refresh } = await ask('POST', '/login', '/login', { json: demoUser });
  await ask('POST', '/login', '/login', { json: { ...demoUser, password: 'wrong' } });
  for (const username of ['nobody', 'root', 'admin']) await ask('POST', '/login', '/login', { json: { username, password: 'wrong' } });
  await ask('POST', '/login', '/login', { body: '{' });
  for (let i = 0; i < 25; i++) await ask('GET', '/protected', '/protected', { bearer: access });
  await ask('HEAD', '/healthz', '/healthz');
  await ask('GET', '/healthz?x=1', '/healthz');
  const { refresh_token: next } = await ask('POST', '/refresh', '/refresh', { bearer: refresh });
  await ask('POST', '/refresh', '/refresh', { bearer: next });
  await ask('POST', '/refresh', '/refresh', { bearer: refresh }); // long spent: the session ends
  await ask('POST', '/logout', '/logout', { bearer: access });
  await ask('OPTIONS', '/login', '(none)');
  await ask('GET', '/nowhere', '(none)');
  await ask('GET', '/%zz', '(none)');
  await ask('DELETE', '/login', '(none)');
  note('other (none)', await speak(program, head('PROPFIND', '/login')));
  const overHttp2 = await openHttp2(t, program);
  note('other (none)', await overHttp2({ ':method': 'BREW', ':path': '/login' }));
  note('GET /healthz', await overHttp2({ ':path': '/healthz' }));
  note('GET /healthz', await overHttp2({ ':path': '/healthz' }));
  // These are no requests yet: only refusals.
  const counts = { ...requests };
  note('wire', await speak(program, 'GET / HTTP/1.1\r\n\r\n', { plain: true }));
  note('wire', await speak(program, 'no HTTP at all\r\n\r\n'));

  await until(program, (found) => {
    assert.deepEqual(requestsOf(found), counts);
    assert.deepEqual(countsBy(found, 'portcullis_refusals_total', 'code'), refusals);
  });
  const found = await scrape(program);
  assert.equal(requests['GET /protected 200'], 20);
  assert.deepEqual(countsBy(found, 'portcullis_limits_hit_total', 'rule'), { 'GET /protected 20 per hour by ip': 5 });
  assert.deepEqual(countsBy(found, 'portcullis_logins_total', 'outcome'), { success: 1, wrong_password: 1, unknown_user: 3 });
  assert.equal(found.value('portcullis_audit_entries_total', { action: 'refresh_replayed' }), 1);
  assert.equal(found.value('portcullis_hashes_total'), 1 + 5, "the demo user's, and one a login");
  assert.equal(found.value('portcullis_hash_wait_seconds_count'), 6);
  assert.equal(found.value('portcullis_http_request_duration_seconds_count', { route: '/protected', method: 'GET' }), 25);
  assert.equal(found.value('portcullis_sessions'), 0);
  assert.equal(found.value('portcullis_revoked_sessions'), 1);
  assert.deepEqual(countsBy(found, 'portcullis_keys', 'state'), { active: 1 });
  assert.equal(found.value('portcullis_connections', { phase: 'http2' }), 1);
  assert.deepEqual([found.value('portcullis_ready'), found.value('portcullis_store_up')], [1, 1]);
});

describe('a running server', () => {
  const program = sharedProgram({ ...wideLimits, ...withAdmin, MAX_CONNECTIONS_PER_ADDRESS: '4' });

  test('shows every metric of the table, of its type, and no other', async () => {
    const found = await scrape(program);
    assert.deepEqual(
      [...found.types],
      metrics.map(({ name, type }) => [name, type]),
    );
    for (const { name, labels = {} } of metrics)
      for (const sample of found.samples.filter((one) => one.name === name))
        assert.deepEqual(Object.keys(sample.labels), Object.keys(labels), name);
    const codes = found.samples.filter(({ name }) => name === 'portcullis_refusals_total').map(({ labels }) => labels.code ?? '');
    assert.deepEqual(
      codes.toSorted(),
      [...Object.keys(problems), ...Object.keys(unanswered)].toSorted(),
      'from the start, so that the first of a code is an increase',
    );
    const before = Date.now() / 1_000;
    const startedAt = found.value('process_start_time_seconds') ?? 0;
    assert.ok(startedAt > before - 60 && startedAt <= before + 1);
    assert.ok((found.value('portcullis_certificate_expiry_timestamp_seconds') ?? 0) > before);
    for (const name of [
      'process_cpu_seconds_total',
      'process_resident_memory_bytes',
      'process_open_fds',
      'portcullis_event_loop_busy_seconds_total',
    ])
      assert.ok((found.value(name) ?? 0) > 0, name);
  });

  test('speaks OpenMetrics to who asks for it', async () => {
    const accept = 'application/openmetrics-text;version=1.0.0;q=0.6,text/plain;version=0.0.4;q=0.3,*/*;q=0.2';
    const { headers, text } = await askAdmin(program, '/metrics', { headers: { accept } });
    assert.equal(headers['content-type'], 'application/openmetrics-text; version=1.0.0; charset=utf-8');
    const older = await scrape(program);
    const newer = parseExposition(text, 'openmetrics');
    assert.deepEqual(
      new Set(newer.samples.map(({ name }) => name)),
      new Set(older.samples.map(({ name }) => name)),
      'the same series in both',
    );
  });

  test('makes no series of what is sent to it', async (t) => {
    const overHttp2 = await openHttp2(t, program);
    const round = async (from: number): Promise<void> => {
      for (let i = from; i < from + 12; i++) {
        const mark = `zqx${i}`;
        await program.ask('GET', `/${mark}?${mark}`);
        await program.ask('GET', `/docs/${mark}/${mark}`);
        await program.ask('GET', '/healthz', { headers: { host: `${mark}.example` } });
        await program.ask('GET', '/protected', {
          bearer: `${mark}.${mark}.${mark}`,
          headers: { origin: `https://${mark}`, 'user-agent': mark },
        });
        await program.ask('POST', '/login', { json: { username: mark, password: mark } });
        await overHttp2({ ':method': mark.toUpperCase(), ':path': `/%zz${mark}` });
        await speak(program, head(mark.toUpperCase(), '/login'));
      }
    };
    await round(0);
    const { samples: first } = await scrape(program);
    await round(12);
    const { samples: second } = await scrape(program);
    const series = (all: Scrape['samples']): string[] => all.map(({ name, labels }) => `${name} ${JSON.stringify(labels)}`).toSorted();
    assert.deepEqual(series(second), series(first));
    assert.doesNotMatch(JSON.stringify(second), /zqx/i);
  });

  test('counts who had to make room', async () => {
    const before = (await scrape(program)).value('portcullis_connections_evicted_total', { bound: 'one address' }) ?? NaN;
    const sockets = Array.from({ length: 9 }, () =>
      tls.connect({ host: '127.0.0.1', port: program.port, ca: program.ca, servername: 'localhost' }).on('error', () => {}),
    );
    await until(program, (found) => {
      assert.ok((found.value('portcullis_connections_evicted_total', { bound: 'one address' }) ?? NaN) >= before + 5);
      assert.equal(countsBy(found, 'portcullis_connections', 'phase').http1, 4);
    });
    for (const socket of sockets) socket.destroy();
  });

  test('lets an operator read, by address, and nothing else', async () => {
    for (const path of ['/metrics', '/metrics?x=1', '/readyz', '/healthz']) {
      const got = await askAdmin(program, path);
      assert.equal(got.status, 200, path);
      const asked = await askAdmin(program, path, { method: 'HEAD' });
      assert.deepEqual([asked.status, asked.text, asked.headers['content-type']], [200, '', got.headers['content-type']]);
      for (const method of ['POST', 'PUT', 'DELETE', 'OPTIONS', 'TRACE']) {
        const refused = await askAdmin(program, path, { method });
        assert.deepEqual([refused.status, refused.headers.allow], [405, 'GET, HEAD'], `${method} ${path}`);
      }
      for (const host of ['evil.example', 'localhost.evil.example', '127.0.0.1.example', 'x:80'])
        assert.equal((await askAdmin(program, path, { headers: { host } })).status, 421, host);
      for (const host of ['localhost:5001', '10.1.2.3:5001', '[::1]:5001'])
        assert.equal((await askAdmin(program, path, { headers: { host } })).status, 200, host);
    }
    for (const path of ['/', '/metrics/', '/Metrics', '/docs', '/healthz/', '/../metrics', '//metrics', '/%6detrics'])
      assert.equal((await askAdmin(program, path)).status, 404, path);
    for (const path of ['/metrics', '/readyz?full'])
      assert.equal((await program.ask('GET', path)).status, path === '/metrics' ? 404 : 200, 'outside there is yes or no');
    assert.deepEqual((await program.ask('GET', '/readyz')).json, { status: 'ok' });
  });

  test('tells an operator what he would look for first', async () => {
    const {
      connections: _,
      upS: __,
      hashesWaiting: ___,
      revokedSessions: ____,
      certificate,
      ...detail
    } = JSON.parse((await askAdmin(program, '/readyz')).text);
    assert.ok(certificate.names.includes('localhost'));
    assert.match(detail.version, /^\d+\.\d+\.\d+$/);
    assert.match(detail.schema, /^\d{4}_/);
    assert.deepEqual(
      { ...detail, version: '', schema: '' },
      {
        ready: true,
        version: '',
        keys: { next: 0, active: 1, retired: 0, gone: 0, compromised: 0 },
        securityLog: { waitingBytes: 0, droppedLines: 0 },
        schema: '',
      },
    );
  });
});

test('each answer is counted once, whatever becomes of it on its way', async (t) => {
  const routes = (app: Parameters<NonNullable<Parameters<typeof openApp>[2]>['routes'] & {}>[0]): void => {
    const config = { access: open() };
    app.get('/fault', { config }, () => {
      throw new Error('a fault');
    });
    app.get('/async-fault', { config }, async () => Promise.reject(new Error('a fault')));
    app.get('/late-fault', { config, onSend: async () => Promise.reject(new Error('a fault')) }, (_, reply) => {
      reply.send('x');
    });
    app.get('/nothing', { config }, (_, reply) => {
      reply.code(204).send();
    });
    app.get('/things/:id', { config }, ({ params }) => params);
  };
  const { app, house } = await openApp(t, {}, { routes });
  const asked = [
    '/fault',
    '/async-fault',
    '/late-fault',
    '/nothing',
    '/things/1',
    '/things/2?x=3',
    `/things/${'x'.repeat(300)}`,
    '/things/%zz',
    '/nowhere',
  ];
  for (const url of asked) await app.inject({ url, headers: { host: 'localhost' } });
  const counted = [...house.traffic.routes()].flatMap(({ route, statuses }) =>
    [...statuses()].map(([status, count]) => `${route} ${status} ${count}`),
  );
  assert.deepEqual(counted.toSorted(), [
    '(none) 400 2',
    '(none) 404 1',
    '/async-fault 500 1',
    '/fault 500 1',
    '/late-fault 500 1',
    '/nothing 204 1',
    '/things/:id 200 2',
  ]);
  assert.deepEqual(Object.fromEntries(house.traffic.refusals.all()), { internal: 3, path_malformed: 2, not_found: 1 });
  assert.ok([...house.traffic.routes()].every(({ took }) => took.sum() >= 0 && took.sum() < 5));
});

test('a store that cannot be asked is a 0, not a scrape that fails', async (t) => {
  const program = await startProgram(t, { settings: { ...wideLimits, ...withAdmin } });
  await logIn(program);
  assert.equal((await scrape(program)).value('portcullis_sessions'), 1);
  rmSync(join(program.folder, 'portcullis.db'));
  const found = await scrape(program);
  assert.deepEqual([found.value('portcullis_store_up'), found.value('portcullis_ready')], [0, 0]);
  assert.equal(found.value('portcullis_sessions'), undefined);
  assert.equal(requestsOf(found)['POST /login 200'], 1, 'what is known is still told');
  const detail = await askAdmin(program, '/readyz');
  const { why, trouble } = JSON.parse(detail.text);
  assert.deepEqual([detail.status, why], [503, 'store']);
  assert.match(trouble, /^unavailable: SQLite: .*portcullis\.db is not the file that was opened$/);
  assert.equal(program.output().match(/"msg":"not ready: the store cannot be asked"/g)?.length, 1, 'said once, however often it is asked');
});
