import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { Agent, request } from 'node:https';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before } from 'node:test';
import { setTimeout as wait } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';

const main = fileURLToPath(new URL('../../packages/server/bin/portcullis.mjs', import.meta.url));

export type Answer = {
  readonly status: number;
  readonly headers: Readonly<Record<string, string | string[] | undefined>>;
  readonly text: string;
  readonly json: any;
}; // whatever a server says

export type Ask = {
  readonly headers?: Readonly<Record<string, string>>;
  readonly json?: unknown;
  readonly body?: string | Buffer;
  readonly bearer?: string;
  readonly from?: string;
};

export type Program = {
  readonly folder: string;
  readonly port: number;
  readonly pid: number;
  readonly ca: string;
  /** Everything the program has printed. */
  output(): string;
  ask(method: string, path: string, ask?: Ask): Promise<Answer>;
  /** SIGTERM by default; resolves with the exit code, or the signal's name. */
  stop(signal?: NodeJS.Signals): Promise<number | string>;
};

type Work = () => Promise<void> | void;
/** Whatever ends: a test, or what {@link shared} makes of a `describe`. */
export type Ending = { after(work: Work): void };

/**
 * What one file or `describe` shares, made before its first test; what it leaves to do is done after its last. The
 * object is empty until then: read from it inside the tests.
 */
export function shared<Thing extends object>(make: (t: Ending) => Promise<Thing>): Thing {
  const thing = {} as Thing; // filled before anyone reads it
  const works: Work[] = [];
  before(async () => {
    Object.assign(thing, await make({ after: (work) => works.push(work) }));
  });
  after(async () => {
    for (const work of works.toReversed()) await work();
  });
  return thing;
}

/**
 * {@link startProgram}, {@link shared}.
 * @param prepare what else is to be ready before the first test: hooks of their own would not wait for one another.
 */
export function sharedProgram(
  settings: Record<string, string> = {},
  prepare: (program: Program, t: Ending) => Promise<void> | void = () => {},
): Program {
  return shared(async (t) => {
    const program = await startProgram(t, { settings });
    await prepare(program, t);
    return program;
  });
}

const works = new WeakMap<Ending, Work[]>();

/** What came last is undone first, so that no folder goes before the program that writes to it; `t.after` begins with the first. */
export function undoAfter(t: Ending, work: Work): void {
  const known = works.get(t);
  if (known) return void known.push(work);
  const all = [work];
  works.set(t, all);
  t.after(async () => {
    for (const undo of all.toReversed()) await undo();
  });
}

/** A folder of its own for a test, gone at its end. */
export function folderFor(t: Ending): string {
  const folder = mkdtempSync(join(tmpdir(), 'portcullis-test-'));
  undoAfter(t, () => rmSync(folder, { recursive: true, force: true }));
  return folder;
}

/** Runs a command of the program to its end. */
export async function runCommand(
  args: readonly string[],
  options: { env?: Record<string, string>; input?: string; cwd?: string } = {},
): Promise<{ code: number | null; stdout: string; stderr: string }> {
  const child = spawn(process.execPath, [main, ...args], {
    env: { PATH: process.env.PATH, HOME: process.env.HOME, ...options.env },
    cwd: options.cwd,
    stdio: ['pipe', 'pipe', 'pipe'],
  });
  let stdout = '';
  let stderr = '';
  child.stdout.on('data', (chunk) => {
    stdout += chunk;
  });
  child.stderr.on('data', (chunk) => {
    stderr += chunk;
  });
  child.stdin.end(options.input ?? '');
  const [code] = await once(child, 'close');
  return { code, stdout, stderr };
}

/**
 * Starts `portcullis dev` (or `serve`, or a program of one's own at `entry`) for real, on a free port, and waits until it answers. `PORTCULLIS_` settings go in
 * `settings` by their bare names. It is stopped at the end of the test, if the test has not done so.
 */
export async function startProgram(
  t: Ending,
  options: {
    folder?: string;
    entry?: string;
    command?: 'dev' | 'serve';
    settings?: Record<string, string>;
    ca?: string;
    cwd?: string;
    /** Beside the settings. */
    env?: Record<string, string>;
  } = {},
): Promise<Program> {
  const folder = options.folder ?? folderFor(t);
  const settings = { PORT: '0', ADMIN_LISTEN: 'none', DATA_DIR: folder, ...options.settings };
  const env = Object.fromEntries(Object.entries(settings).map(([name, value]) => [`PORTCULLIS_${name}`, value]));
  const child = spawn(process.execPath, options.entry ? [options.entry] : [main, options.command ?? 'dev'], {
    env: { PATH: process.env.PATH, HOME: process.env.HOME, ...env, ...options.env },
    cwd: options.cwd,
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  let output = '';
  for (const stream of [child.stdout, child.stderr])
    stream.on('data', (chunk) => {
      output += chunk;
    });
  const ended = once(child, 'close').then(([code, signal]) => (code ?? signal) as number | string);
  const stop = async (signal: NodeJS.Signals = 'SIGTERM'): Promise<number | string> => {
    if (child.exitCode === null && child.signalCode === null) child.kill(signal);
    return ended;
  };
  undoAfter(t, async () => {
    await stop('SIGKILL');
  });

  const port = await new Promise<number>((resolve, reject) => {
    const look = () => {
      const found = /https?:\/\/[^\s/]*:(\d+)/.exec(output);
      if (found && /listening/i.test(output)) resolve(Number(found[1]));
    };
    for (const stream of [child.stdout, child.stderr]) stream.on('data', look);
    void ended.then((code) => reject(new Error(`the program ended with ${code}:\n${output}`)));
    setTimeout(() => reject(new Error(`the program did not start:\n${output}`)), 20_000).unref();
  });

  const ca = options.ca ?? readFileSync(join(folder, 'ca.pem'), 'utf8');
  const agent = new Agent({ keepAlive: true, maxSockets: 200 });
  undoAfter(t, () => agent.destroy());

  return {
    folder,
    port,
    ca,
    pid: child.pid ?? 0,
    stop,
    output: () => output,
    ask: (method, path, { headers = {}, json, body, bearer, from } = {}) =>
      new Promise((resolve, reject) => {
        const payload = body ?? (json === undefined ? undefined : JSON.stringify(json));
        const sent = request(
          {
            host: '127.0.0.1',
            servername: 'localhost',
            port,
            path,
            method,
            ca,
            agent: from ? false : agent,
            ...(from && { localAddress: from }),
            headers: {
              host: `localhost:${port}`,
              ...(payload !== undefined && { 'content-type': 'application/json', 'content-length': String(Buffer.byteLength(payload)) }),
              ...(bearer !== undefined && { authorization: `Bearer ${bearer}` }),
              ...headers,
            },
          },
          (answer) => {
            const chunks: Buffer[] = [];
            answer
              .on('data', (chunk: Buffer) => chunks.push(chunk))
              .on('error', reject)
              .on('end', () => {
                const text = Buffer.concat(chunks).toString();
                let parsed: unknown;
                try {
                  parsed = JSON.parse(text);
                } catch {
                  /* not JSON: `text` has it */
                }
                resolve({ status: answer.statusCode ?? 0, headers: answer.headers, text, json: parsed });
              });
          },
        );
        sent.on('error', reject);
        sent.end(payload);
      }),
  };
}

export const demoUser = { username: 'testuser', password: 'password123' } as const;

/** Limits so wide that a test about something else never meets them. */
export const wideLimits = {
  LOGIN_LIMITS: '1000000 per minute',
  PROTECTED_LIMITS: '1000000 per minute',
  REFRESH_LIMITS: '1000000 per minute',
  LOGOUT_LIMITS: '1000000 per minute',
  DEFAULT_LIMITS: '1000000 per minute',
  AUTH_FAILURE_LIMITS: '1000000 per minute',
} as const;

export async function logIn(
  program: Program,
  who: { username: string; password: string } = demoUser,
): Promise<{ access: string; refresh: string; device: string }> {
  const { status, json, text } = await program.ask('POST', '/login', { json: who });
  if (status !== 200) throw new Error(`login: ${status} ${text}`);
  return { access: json.access_token, refresh: json.refresh_token, device: json.device_token };
}

/** Looks until it is so, for ten seconds. */
export async function until(isSo: () => boolean | Promise<boolean>): Promise<void> {
  for (let looks = 0; !(await isSo()); looks += 1) {
    if (looks === 500) throw new Error(`it never came true: ${isSo}`);
    await wait(20);
  }
}
