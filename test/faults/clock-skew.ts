import assert from 'node:assert/strict';
import { globSync } from 'node:fs';
import { decodeJwt } from 'jose';
import type { Ending, Program } from '../support/program.ts';
import { alice, startSharedStores } from '../support/shared-stores.ts';

export type ClockSkew = {
  /** How far the two instances' own clocks were apart, as the second one said of itself at its start. */
  readonly apartMs: number;
  readonly rounds: number;
  /** Tokens and refresh tokens of one that the other did not take at once. */
  readonly refused: number;
  /** Requests that were let in after the session had ended. */
  readonly late: number;
  /** How far a token's `iat` was from the time of the database, at most. */
  readonly iatOffS: number;
  /** Of 30 requests of one caller, in turns at both, under a limit of 20. */
  readonly admitted: number;
};

const library = globSync('/usr/lib/*/faketime/libfaketime.so.1')[0];
export const isFaketimeHere = library !== undefined;

/** Two instances, the second with a clock that is `skewS` seconds ahead (or behind, below 0), on one PostgreSQL and one Redis. */
export async function clockSkew({
  skewS = 30,
  rounds = 20,
}: { readonly skewS?: number; readonly rounds?: number } = {}): Promise<ClockSkew> {
  await using held = new AsyncDisposableStack();
  const t: Ending = { after: (work) => held.defer(async () => work()) };
  const stores = await startSharedStores(t, { PROTECTED_LIMITS: '20 per minute by ip', LOGOUT_LIMITS: '20 per minute by ip' });
  const one = await stores.start('one');
  const other = await stores.start('other', {
    env: { LD_PRELOAD: library ?? '', FAKETIME: `${skewS < 0 ? '' : '+'}${skewS}s`, FAKETIME_DONT_FAKE_MONOTONIC: '1' },
  });
  const apartMs = -Number(/"offsetMs":(-?\d+)/.exec(other.output())?.[1]);
  let [refused, late, iatOffS] = [0, 0, 0];
  let caller = 10;

  for (let round = 0; round < rounds; round++) {
    const [here, there] = round % 2 ? [one, other] : [other, one];
    const from = `127.0.0.${(caller += 1)}`;
    const { access, refresh } = await logIn(here, from);
    const { rows } = await stores.postgres.query('select extract(epoch from clock_timestamp()) as at');
    iatOffS = Math.max(iatOffS, Math.abs(Number(rows[0].at) - (decodeJwt(access).iat ?? 0)));
    if ((await there.ask('GET', '/protected', { bearer: access, from })).status !== 200) refused += 1;
    const next = await there.ask('POST', '/refresh', { bearer: refresh, from });
    if (next.status !== 200) refused += 1;
    if ((await here.ask('GET', '/protected', { bearer: next.json.access_token, from })).status !== 200) refused += 1;
    assert.equal((await here.ask('POST', '/logout', { bearer: access, from })).status, 200);
    for (const program of [there, here])
      for (const bearer of [access, next.json.access_token])
        if ((await program.ask('GET', '/protected', { bearer, from })).status !== 401) late += 1;
  }

  const from = '127.0.0.9';
  const { access: bearer } = await logIn(one, from);
  let admitted = 0;
  for (let i = 0; i < 30; i++) if ((await (i % 2 ? one : other).ask('GET', '/protected', { bearer, from })).status === 200) admitted += 1;
  return { apartMs, rounds, refused, late, iatOffS: Math.round(iatOffS * 10) / 10, admitted };
}

async function logIn(program: Program, from: string): Promise<{ access: string; refresh: string }> {
  const { status, json, text } = await program.ask('POST', '/login', { json: alice, from });
  assert.equal(status, 200, text);
  return { access: json.access_token, refresh: json.refresh_token };
}

if (import.meta.main) console.log(await clockSkew({ skewS: Number(process.argv[2] ?? 30) }));
