import assert from 'node:assert/strict';
import { once } from 'node:events';
import { connect } from 'node:http2';
import { suite, test, type TestContext } from 'node:test';
import { type Answer, logIn, type Program, startProgram, wideLimits } from './support/program.ts';

type Refresh = (token: string) => Promise<Pick<Answer, 'status' | 'json'>>;

/** How a client speaks: fifty kept connections, or fifty streams of one. */
const wires: Record<string, (t: TestContext, program: Program) => Promise<Refresh>> = {
  'HTTP/1.1': async (_, program) => (token) => program.ask('POST', '/refresh', { bearer: token }),
  'HTTP/2': async (t, { port, ca }) => {
    const session = connect(`https://localhost:${port}`, { ca, host: '127.0.0.1' });
    t.after(() => session.destroy());
    await once(session, 'connect');
    return async (token) => {
      const stream = session.request({ ':method': 'POST', ':path': '/refresh', authorization: `Bearer ${token}` });
      const [headers] = await once(stream, 'response');
      return { status: headers[':status'], json: JSON.parse((await stream.setEncoding('utf8').toArray()).join('')) };
    };
  },
};

for (const [wire, open] of Object.entries(wires)) {
  suite(`fifty refreshes of one token at once over ${wire}`, () => {
    test('all get the one successor, and the chain goes on', async (t) => {
      const program = await startProgram(t, { settings: wideLimits });
      const refresh = await open(t, program);
      const first = await logIn(program);
      const all = await Promise.all(Array.from({ length: 50 }, () => refresh(first.refresh)));
      assert.deepEqual(new Set(all.map(({ status }) => status)), new Set([200]));
      const [next = '', ...others] = new Set(all.map(({ json }): string => json.refresh_token));
      assert.deepEqual(others, []);
      assert.notEqual(next, first.refresh);
      for (const { json } of all) assert.equal((await program.ask('GET', '/protected', { bearer: json.access_token })).status, 200);

      const { status, json } = await refresh(next);
      assert.equal(status, 200);
      assert.equal((await refresh(first.refresh)).json.code, 'token_revoked', 'its successor is used: a replay');
      assert.equal((await refresh(json.refresh_token)).json.code, 'token_revoked');
    });

    test('strict: one gets a successor; the second use of the token ends the session for all', async (t) => {
      const program = await startProgram(t, { settings: { ...wideLimits, REFRESH_GRACE: '0' } });
      const refresh = await open(t, program);
      const first = await logIn(program);
      const all = await Promise.all(Array.from({ length: 50 }, () => refresh(first.refresh)));
      const won = all.filter(({ status }) => status === 200);
      assert.equal(won.length, 1);
      for (const { status, json } of all) if (status !== 200) assert.deepEqual([status, json.code], [401, 'token_revoked']);
      assert.equal((await refresh(won[0]?.json.refresh_token)).json.code, 'token_revoked');
      for (const access of [first.access, won[0]?.json.access_token])
        assert.equal((await program.ask('GET', '/protected', { bearer: access })).json.code, 'token_revoked');
      await logIn(program);
    });
  });
}
