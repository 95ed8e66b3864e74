import assert from 'node:assert/strict';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import type { Ending, Program } from '../test/support/program.ts';
import { type AccessTokens, FRONT_END, good, tampered } from './askings.ts';
import { familyOf } from './cpu.ts';
import type { Generator, Target } from './generator.ts';

/** A server of ours as it stands ready, with what is needed to ask it. */
export type Portcullis = Target &
  AccessTokens & {
    readonly program: Program;
    /** Of sessions of their own. */
    refresh: readonly string[];
  };

/** A tree of sources, and its program on one store or the other. Each is started by the tree's own support. */
export type Tree = {
  embedded(): Promise<Portcullis>;
  /** On PostgreSQL and Redis: two instances, so that one may be asked for what the other has issued. */
  shared(): Promise<{ readonly instance: Portcullis; readonly other: Portcullis }>;
};

/** Too high to be met, and counted all the same, over longer than a run takes; but for one, of which a single request may pass. */
const limits = {
  PROTECTED_LIMITS: '1000000000 per day by ip',
  AUTH_FAILURE_LIMITS: '1000000000 per day by ip',
  REFRESH_LIMITS: '1000000000 per day by ip',
  LOGOUT_LIMITS: '1 per hour by ip',
  SESSIONS_PER_USER: '10000',
  ACCESS_TOKEN_TTL: '24 hours', // a long run does not outlive its tokens
};
/** A machine with other things to do must not make an outage of a busy moment. */
const patience = { DATABASE_TIMEOUT: '30 s', REDIS_TIMEOUT: '5 s' };
const SESSIONS = 32;
/** Of the instance whose tokens another is asked for: the last one of each is known, so that as many can be asked for in a slice. */
const MANY_SESSIONS = 960;

/** This tree. */
export const repository = join(import.meta.dirname, '..');

/** @param root the folder of the sources; its dependencies are installed. */
export async function openTree(root: string, until: Ending): Promise<Tree> {
  const [{ demoUser, folderFor, logIn, startProgram, until: isSo, wideLimits }, { alice, openSharedCluster }] = await Promise.all([
    supportOf<typeof import('../test/support/program.ts')>(root, 'program'),
    supportOf<typeof import('../test/support/cluster.ts')>(root, 'cluster'),
  ]);

  async function ready(program: Program, user: typeof demoUser | typeof alice, stores: Target['stores'] = {}): Promise<Portcullis> {
    const { access } = await logIn(program, user);
    const revoked = await seeItWork(program, access, (await logIn(program, user)).access, user.username);
    const refresh: string[] = [];
    while (refresh.length < SESSIONS) refresh.push((await logIn(program, user)).refresh);
    return { program, port: program.port, ca: program.ca, pids: () => [program.pid], stores, access, revoked, refresh };
  }

  return {
    async embedded() {
      return ready(await startProgram(until, { folder: folderFor(until), settings: { ...wideLimits, ...limits } }), demoUser);
    },
    async shared() {
      const cluster = await openSharedCluster(until, { ...limits, ...patience, CORS_ORIGINS: FRONT_END });
      const redis = Number(/process_id:(\d+)/.exec(await cluster.redis.tell('info', 'server'))?.[1]);
      const { rows } = await cluster.postgres.query(`select pg_read_file('postmaster.pid') as first`);
      const postmaster = parseInt(rows[0].first, 10);
      const stores = { PostgreSQL: () => familyOf(postmaster), Redis: () => [redis] };
      const start = async (name: string): Promise<Program> => {
        const program = await cluster.start(name);
        await isSo(() => program.output().includes('sessions are asked of Redis'));
        return program;
      };
      const instance = await ready(await start('one'), alice, stores);
      const program = await start('other');
      return {
        instance,
        other: { ...instance, program, port: program.port, pids: () => [program.pid], refresh: await sessionsOf(program) },
      };

      async function sessionsOf(program: Program): Promise<string[]> {
        const some = async (): Promise<string[]> => {
          const refresh: string[] = [];
          while (refresh.length < MANY_SESSIONS / 4) refresh.push((await logIn(program, alice)).refresh);
          return refresh;
        };
        return (await Promise.all([some(), some(), some(), some()])).flat();
      }
    },
  };
}

const supportOf = async <Support>(root: string, name: string): Promise<Support> =>
  (await import(pathToFileURL(join(root, 'test/support', `${name}.ts`)).href)) as Support; // of this version or one like it

/** A server that skipped its gates would be fast. @returns an access token that has been revoked. */
async function seeItWork(program: Program, access: string, ended: string, username: string): Promise<string> {
  const ask = (bearer?: string) => program.ask('GET', '/protected', { headers: { origin: FRONT_END }, ...(bearer && { bearer }) });
  const { status, json, headers } = await ask(access);
  assert.deepEqual({ status, json }, { status: 200, json: { logged_in_as: username } });
  for (const name of [
    'strict-transport-security',
    'content-security-policy',
    'x-content-type-options',
    'x-request-id',
    'ratelimit',
    'ratelimit-policy',
  ])
    assert.ok(headers[name], name);
  assert.equal(headers['access-control-allow-origin'], FRONT_END);
  assert.equal(headers['cache-control'], 'no-store');

  assert.equal((await ask(ended)).status, 200);
  assert.equal((await program.ask('POST', '/logout', { bearer: ended })).status, 200);
  assert.equal((await ask(ended)).json.msg, 'Token has been revoked');
  assert.equal((await program.ask('POST', '/logout', { bearer: ended })).status, 429);
  assert.equal((await ask(tampered(access, 0))).json.msg, 'Token is invalid');
  assert.equal((await ask()).json.msg, 'Missing Authorization Header');
  return ended;
}

/** Every request of a burst is on the limit's account, to the last one. */
export async function seeItCount(server: Portcullis, generator: Generator): Promise<void> {
  const bearer = server.access;
  const left = async () =>
    Number(/;r=(\d+)/.exec(String((await server.program.ask('GET', '/protected', { bearer })).headers.ratelimit))?.[1]);
  const before = await left();
  const { completed } = await generator.slice(server, good(server), 200);
  assert.equal(before - (await left()), completed + 1);
}
