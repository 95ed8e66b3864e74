import { join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { alice, openCluster } from '../support/cluster.ts';
import { demoUser, folderFor, type Program, startProgram, until, wideLimits } from '../support/program.ts';
import { findings, type Scene, type Seen, timed } from './fault.ts';
import { sessionsOf } from './sessions.ts';

type Store = 'sqlite' | 'postgres';

/**
 * kill -9 in mid-load, again and again on one store: what was answered holds.
 * @param how.grace of refresh tokens; with '0' a repeated one is a replay.
 */
export async function killServer(t: Scene, rounds: number, how: { store: Store; grace: string }): Promise<Seen> {
  const { start, who, integrity } = how.store === 'sqlite' ? onSqlite(t, how.grace) : await onPostgres(t, how.grace);
  const found = findings();
  const sessions = sessionsOf(who, { found, isStrict: how.grace === '0' });
  let program = await start();
  for (let round = 0; round < rounds; round += 1) {
    const acted = killer(program, 20 + Math.floor(Math.random() * 60));
    await (
      await sessions.begin([program], { mayGo: true, acted })
    ).ended;
    if ((await program.stop()) !== 'SIGKILL') found.wrong(`it ended by itself:\n${program.output()}`);

    const tookMs = await timed(async () => {
      program = await start();
      await until(async () => (await program.ask('GET', '/readyz')).status === 200);
    });
    found.most('ready again, slowest ms', tookMs);
    if (integrity() !== 'ok') found.wrong(`the file is broken: ${integrity()}`);
    await sessions.check(program);
    t.progress?.(round + 1, rounds);
  }
  await sessions.checkEnded(program);
  return found.seen();
}

/** A port is drawn anew at each start; the issuer must not change with it. */
const settings = { SESSIONS_PER_USER: '10000', ACCESS_TOKEN_TTL: '12 hours' };

function onSqlite(t: Scene, grace: string) {
  const folder = folderFor(t);
  const own = { ...wideLimits, ...settings, ISSUER: 'https://localhost', REFRESH_GRACE: grace };
  return {
    who: demoUser,
    start: () => startProgram(t, { folder, settings: own }),
    integrity(): unknown {
      const db = new DatabaseSync(join(folder, 'portcullis.db'), { readOnly: true });
      try {
        return Object.values(db.prepare('PRAGMA integrity_check').get() ?? {})[0];
      } finally {
        db.close();
      }
    },
  };
}

async function onPostgres(t: Scene, grace: string) {
  const cluster = await openCluster(t, { ...settings, REFRESH_GRACE: grace });
  await cluster.addAlice();
  return { who: alice, start: () => cluster.start('one'), integrity: () => 'ok' };
}

/** To be called at each act: so many, and a moment more, and the program is dead. */
function killer(program: Program, acts: number): () => void {
  let left = acts;
  return () => {
    left -= 1;
    if (left === 0) setTimeout(() => void program.stop('SIGKILL'), Math.random() * 30);
  };
}
