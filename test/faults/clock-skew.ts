import assert from 'node:assert/strict';
import { decodeJwt } from 'jose';
import { alice, openSharedCluster } from '../support/cluster.ts';
import { wallClock } from '../support/faketime.ts';
import type { Program } from '../support/program.ts';
import { findings, type Scene, type Seen } from './fault.ts';

/** Two instances, the second with a clock that is `skewS` seconds ahead (or behind, below 0), on one PostgreSQL and one Redis. */
export async function clockSkew(t: Scene, rounds: number, skewS: number): Promise<Seen> {
  const found = findings();
  const stores = await openSharedCluster(t, { PROTECTED_LIMITS: '20 per minute by ip', LOGOUT_LIMITS: '20 per minute by ip' });
  const clock = wallClock(t);
  clock.shift(skewS);
  const one = await stores.start('one');
  const other = await stores.start('other', { env: clock.env });
  const apartMs = -Number(/"offsetMs":(-?\d+)/.exec(other.output())?.[1]);
  if (!(Math.abs(apartMs - skewS * 1_000) < 2_000)) found.wrong(`they are ${apartMs} ms apart`);
  let iatOffS = 0;
  let caller = 10;

  for (let round = 0; round < rounds; round++) {
    const [here, there] = round % 2 ? [one, other] : [other, one];
    const from = `127.0.0.${(caller += 1)}`;
    const { access, refresh } = await logIn(here, from);
    const { rows } = await stores.postgres.query('select extract(epoch from clock_timestamp()) as at');
    iatOffS = Math.max(iatOffS, Math.abs(Number(rows[0].at) - (decodeJwt(access).iat ?? 0)));
    if ((await there.ask('GET', '/protected', { bearer: access, from })).status !== 200) found.wrong(`round ${round}: refused`);
    const next = await there.ask('POST', '/refresh', { bearer: refresh, from });
    if (next.status !== 200) found.wrong(`round ${round}: refused`);
    if ((await here.ask('GET', '/protected', { bearer: next.json.access_token, from })).status !== 200)
      found.wrong(`round ${round}: refused`);
    assert.equal((await here.ask('POST', '/logout', { bearer: access, from })).status, 200);
    for (const program of [there, here])
      for (const bearer of [access, next.json.access_token])
        if ((await program.ask('GET', '/protected', { bearer, from })).status !== 401)
          found.wrong(`round ${round}: let in after the logout`);
    t.progress?.(round + 1, rounds);
  }

  const from = '127.0.0.9';
  const { access: bearer } = await logIn(one, from);
  let admitted = 0;
  for (let i = 0; i < 30; i++) if ((await (i % 2 ? one : other).ask('GET', '/protected', { bearer, from })).status === 200) admitted += 1;
  if (admitted !== 20) found.wrong(`${admitted} of 30 let in by a limit of 20`);
  if (iatOffS > 5) found.wrong(`a token's time is ${iatOffS} s off`);
  return found.seen({ 'apart, ms': apartMs, 'off, of a token, ms': Math.round(iatOffS * 1_000), admitted });
}

async function logIn(program: Program, from: string): Promise<{ access: string; refresh: string }> {
  const { status, json, text } = await program.ask('POST', '/login', { json: alice, from });
  assert.equal(status, 200, text);
  return { access: json.access_token, refresh: json.refresh_token };
}
