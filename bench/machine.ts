import { execFileSync } from 'node:child_process';
import { globSync } from 'node:fs';
import { availableParallelism, cpus, loadavg, release, totalmem, type } from 'node:os';

/** What something was measured on; a figure means nothing without it. */
export type Machine = {
  /** The day, as `2026-11-23`. */
  readonly at: string;
  readonly cpu: string;
  readonly cores: number;
  readonly memoryGb: number;
  readonly kernel: string;
  readonly node: string;
  /** Where it is installed. */
  readonly redis?: string;
  readonly postgresql?: string;
  /** How many others wanted a core in the minute before. */
  readonly load: number;
};

export function machine(): Machine {
  const postgres = globSync('/usr/lib/postgresql/*/bin/postgres').toSorted().at(-1);
  return {
    at: new Date().toISOString().slice(0, 10),
    cpu: cpus()[0]?.model.trim() ?? 'unknown',
    cores: availableParallelism(),
    memoryGb: Math.round(totalmem() / 2 ** 30),
    kernel: `${type()} ${release()}`,
    node: process.version.slice(1),
    ...versionOf('redis', 'redis-server', /v=(\S+)/),
    ...versionOf('postgresql', postgres, /(\d[\d.]*)/),
    load: Number((loadavg()[0] ?? 0).toFixed(1)),
  };
}

/** In one line. */
export const aboutMachine = ({ at, cpu, cores, memoryGb, kernel, node, redis, postgresql, load }: Machine): string =>
  [
    `Node ${node}`,
    redis !== undefined && `Redis ${redis}`,
    postgresql !== undefined && `PostgreSQL ${postgresql}`,
    kernel,
    `${cores} cores of ${cpu}`,
    `${memoryGb} GiB`,
    at,
    load >= 0.5 && `load ${load} before it began`,
  ]
    .filter((part) => part !== false)
    .join(', ');

function versionOf<Name extends string>(name: Name, program: string | undefined, pattern: RegExp): { readonly [_ in Name]?: string } {
  try {
    const version = program && pattern.exec(execFileSync(program, ['--version'], { encoding: 'utf8' }))?.[1];
    return version ? ({ [name]: version } as { [_ in Name]?: string }) : {}; // a computed name is a string to the compiler
  } catch {
    return {};
  }
}
