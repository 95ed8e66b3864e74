import { execFileSync, spawnSync } from 'node:child_process';
import { readFileSync, rmSync, statfsSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { setTimeout as wait } from 'node:timers/promises';
import { type Answer, demoUser, folderFor, logIn, type Program, startProgram, undoAfter, until, wideLimits } from '../support/program.ts';
import { findings, type Findings, type Scene, type Seen, timed } from './fault.ts';

const SIZE_MIB = 24;

/** Why no disk of our own can be mounted here; `undefined` where one can. */
export function whyNoDisk(): string | undefined {
  if (process.platform !== 'linux' || process.getuid?.() !== 0) return 'mounting a small disk needs root on Linux';
  const scene: { work?: () => void } = {};
  const folder = folderFor({ after: (work) => void (scene.work = () => void work()) });
  const isAllowed = spawnSync('mount', ['-t', 'tmpfs', '-o', 'size=1m', 'tmpfs', folder]).status === 0;
  if (isAllowed) execFileSync('umount', [folder]);
  scene.work?.();
  return isAllowed ? undefined : 'nothing may be mounted here';
}

/**
 * The disk of the store and the security log runs full in mid-use, and has room again: what cannot be written is 503,
 * whatever was answered is on record, and all is well by itself as soon as there is room.
 */
export async function diskFull(t: Scene, rounds: number): Promise<Seen> {
  const found = findings();
  const folder = folderFor(t);
  execFileSync('mount', ['-t', 'tmpfs', '-o', `size=${SIZE_MIB}m,mode=0700`, 'tmpfs', folder]);
  undoAfter(t, () => void execFileSync('umount', ['-l', folder]));
  const program = await startProgram(t, { folder, settings: { ...wideLimits, SESSIONS_PER_USER: '10000', ISSUER: 'https://localhost' } });
  const { device } = await logIn(program);
  /** By the id of its session: a login, a logout that was answered. */
  const answered = { login: new Set<string>(), logout: new Set<string>() };

  for (let round = 0; round < rounds; round += 1) {
    const kept = await use(program, device, found, answered);
    if (!kept) throw new Error('there is room, and nobody can log in');
    fill(folder);
    // Where SQLite still has room in its log, some get through.
    let refusals = 0;
    for (let tries = 0; tries < 400 && refusals < 20; tries += 1) refusals += (await use(program, device, found, answered)) ? 0 : 1;
    if (refusals < 20) found.wrong('the disk is full, and logins go on');
    if ((await program.ask('GET', '/protected', { bearer: kept })).status !== 200) found.wrong('who is logged in is not believed any more');
    if ((await program.ask('GET', '/protected', { bearer: 'x' })).status !== 401) found.wrong('a bad token is not refused as ever');

    rmSync(join(folder, 'filler'));
    const tookMs = await timed(() => until(async () => (await use(program, device, found, answered)) !== undefined));
    found.most('well again, slowest ms', tookMs);
    t.progress?.(round + 1, rounds);
  }
  for (const act of ['login', 'logout'] as const) {
    const onRecord = recorded(folder, act);
    found.add(`${act}s answered`, answered[act].size);
    for (const id of answered[act]) if (!onRecord.has(id)) found.wrong(`a ${act} was answered and is not on record`);
  }
  await wait(200); // the log is written behind
  const last = readFileSync(join(folder, 'security.log'), 'utf8').trimEnd().split('\n').at(-1) ?? '';
  await found.check('the security log goes on', () => void JSON.parse(last));
  if (/"level":"fatal"/.test(program.output())) found.wrong(program.output());
  return found.seen();
}

/** Logs in, and out again every other time. @returns an access token that lives, `undefined` when it was refused. */
async function use(
  program: Program,
  device: string,
  found: Findings,
  answered: Record<'login' | 'logout', Set<string>>,
): Promise<string | undefined> {
  const login = await program.ask('POST', '/login', { json: { ...demoUser, device_token: device } });
  if (!isAnswered(login, found)) return undefined;
  const access: string = login.json.access_token;
  answered.login.add(sessionOf(access));
  if (Math.random() < 0.5) return access;
  const logout = await program.ask('POST', '/logout', { bearer: access });
  if (!isAnswered(logout, found)) return undefined;
  answered.logout.add(sessionOf(access));
  const after = await program.ask('GET', '/protected', { bearer: access });
  if (after.json?.code !== 'token_revoked') found.wrong(`after its logout: ${after.status} ${after.text}`);
  return use(program, device, found, answered);
}

function isAnswered({ status, headers, text }: Answer, found: Findings): boolean {
  if (status === 200) return true;
  found.add('503');
  if (status !== 503 || headers['retry-after'] === undefined) found.wrong(`${status} ${text}`);
  return false;
}

const sessionOf = (access: string): string => JSON.parse(Buffer.from(access.split('.')[1] ?? '', 'base64url').toString()).sid;

function fill(folder: string): void {
  const { bavail, bsize } = statfsSync(folder);
  writeFileSync(join(folder, 'filler'), Buffer.alloc(bavail * bsize));
}

function recorded(folder: string, act: string): Set<string> {
  const db = new DatabaseSync(join(folder, 'portcullis.db'), { readOnly: true });
  try {
    const rows = db.prepare('select session_id as id from audit where action = ?').all(act);
    return new Set(rows.map(({ id }) => String(id)));
  } finally {
    db.close();
  }
}
