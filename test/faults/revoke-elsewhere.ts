import { alice, startCluster } from '../support/cluster.ts';
import { logIn } from '../support/program.ts';
import { startRedis } from '../support/redis.ts';
import { findings, type Scene, type Seen } from './fault.ts';

/** So many sessions at the same time, and each asks over so many connections. */
const AT_ONCE = 5;
const IN_FLIGHT = 3;

/** Two instances: a session ends on one while its requests are under way on the other. None that begins after the answer is let in. */
export async function revokeElsewhere(t: Scene, rounds: number): Promise<Seen> {
  const found = findings();
  const redis = await startRedis();
  t.after(redis.stop);
  const { one, other } = await startCluster(t, { REDIS_URL: redis.url, REDIS_TIMEOUT: '2 s', SESSIONS_PER_USER: '10000' });
  const { device } = await logIn(one, alice);
  let done = 0;

  async function round(i: number): Promise<void> {
    const [here, there] = i % 2 ? [one, other] : [other, one];
    const login = await here.ask('POST', '/login', { json: { ...alice, device_token: device } });
    if (login.status !== 200) throw new Error(`login: ${login.status} ${login.text}`);
    const { access_token: bearer, refresh_token: refresh } = login.json;
    let endedAt = Infinity;
    const ask = async (): Promise<void> => {
      for (let after = 0; after < 3;) {
        const since = performance.now();
        const { status, json, text } = await there.ask('GET', '/protected', { bearer });
        found.add('requests');
        if (status === 200) {
          if (since > endedAt) found.wrong(`let in ${since - endedAt} ms after the logout was answered`);
        } else if (json?.code !== 'token_revoked') found.wrong(`GET /protected: ${status} ${text}`);
        if (since > endedAt) after += 1;
      }
    };
    const asking = Array.from({ length: IN_FLIGHT }, ask);
    await new Promise((next) => setTimeout(next, Math.random() * 10));
    const logout = await here.ask('POST', '/logout', { bearer });
    if (logout.status !== 200) found.wrong(`POST /logout: ${logout.status} ${logout.text}`);
    endedAt = performance.now();
    await Promise.all(asking);
    const next = await there.ask('POST', '/refresh', { bearer: refresh });
    if (next.json?.code !== 'token_revoked') found.wrong(`POST /refresh: ${next.status} ${next.text}`);
    t.progress?.((done += 1), rounds);
  }

  for (let i = 0; i < rounds; i += AT_ONCE)
    await Promise.all(Array.from({ length: Math.min(AT_ONCE, rounds - i) }, (_, at) => round(i + at)));
  return found.seen();
}
