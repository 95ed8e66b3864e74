import { plainText } from '../domain/audit/audit.ts';
import { Problem } from '../domain/problem.ts';
import { Mistake } from '../mistake.ts';
import { listen, type Listen } from '../settings/kinds.ts';
import { command } from './command.ts';

/** Longer than the server lets its store take, unless told otherwise: its own "not ready" should be heard. */
const PATIENCE_MS = 8_000;

export const health = [
  command({
    name: 'health',
    modes: ['admin', 'dev'],
    settings: 'all',
    options: { alive: { says: 'Only whether it answers, and nothing of its store. For whatever restarts a server that does not.' } },
    summary: 'Ask the server on this machine how it is',
    about: ['It is asked where ADMIN_LISTEN says, and what it says there at /readyz is shown. Exit code 0 means that requests should be sent to it, 1 that they should not, or that nobody answers.'],
    examples: [['health', 'is it ready, and if not, why?'], ['health --alive', 'the health check of a container'], ['health --admin-listen 127.0.0.1:15002', 'of the other one']],
    async does(on, { alive }) {
      const at = on.settings().adminListen;
      if (!at) throw new Mistake('PORTCULLIS_ADMIN_LISTEN ("none"): nobody is there to be asked; let the server listen for its operators');
      const { isOk, said } = await ask(at, alive ? '/healthz' : '/readyz');
      for (const line of JSON.stringify(said, null, 2).split('\n')) on.terminal.out.line(plainText(line, 1_000));
      if (!isOk) throw new Problem('unavailable', 'not ready');
    },
  }),
];

async function ask(at: Listen, path: string): Promise<{ isOk: boolean; said: unknown }> {
  const where = `http://${listen.show({ ...at, host: reachable(at.host) })}${path}`;
  try {
    const answer = await fetch(where, { signal: AbortSignal.timeout(PATIENCE_MS) });
    return { isOk: answer.ok, said: await answer.json() };
  } catch {
    throw new Problem('unavailable', `no server of ours answers at ${where}`);
  }
}

/** Who listens on every address is asked on loopback. */
const reachable = (host: string): string => (/^[0.]+$/.test(host) ? '127.0.0.1' : /^[0:]+$/.test(host) ? '::1' : host);
