import type { Program } from '../support/program.ts';
import { findings, type Findings } from './fault.ts';

/** For `DEFAULT_LIMITS`, by address; few, so that it is soon seen who counts. */
export const LIMIT = 4;

/** For instances whose Redis is taken away, again and again. */
export const outageSettings = {
  REDIS_TIMEOUT: '2 s', // what is late on a busy machine is not what is looked at here
  REFRESH_LIMITS: '1000000 per minute by ip',
  DEFAULT_LIMITS: `${LIMIT} per hour by ip`,
  SESSIONS_PER_USER: '10000',
  ACCESS_TOKEN_TTL: '12 hours',
  REFRESH_GRACE: '5 minutes',
};

let given = 0;

/** An address of loopback that nobody has asked from yet: its limits are whole. */
export function freshAddress(): string {
  given += 1;
  return `127.${1 + (given >> 16)}.${(given >> 8) & 255}.${given & 255}`;
}

/** Whether each instance lets in a whole limit and no more, which away from Redis it would not: there it has a share. */
export async function isShared(programs: readonly Program[]): Promise<boolean> {
  const found = findings();
  for (const program of programs) if ((await admittedBy([program], freshAddress(), LIMIT, found)) < LIMIT) return false;
  return true;
}

/** How many of so many, in turns, of a route that asks for no token. */
export async function admittedBy(programs: readonly Program[], from: string, times: number, found: Findings): Promise<number> {
  let sum = 0;
  for (let i = 0; i < times; i += 1) {
    const { status, headers, text } = await programs[i % programs.length]!.ask('GET', '/.well-known/jwks.json', { from });
    if (status === 200) sum += 1;
    else if ((status !== 429 && status !== 503) || headers['retry-after'] === undefined) found.wrong(`a limited route: ${status} ${text}`);
  }
  return sum;
}
