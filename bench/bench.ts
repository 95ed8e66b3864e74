import type { Ending } from '../test/support/program.ts';
import { type Generator, openGenerator } from './generator.ts';

/** What every measurement has: something that asks, somewhere to say how far it is, and an end. */
export type Bench = Ending & {
  readonly generator: Generator;
  /** For whoever waits: on standard error, beside the results. */
  tell(line: string): void;
  step(round: number, rounds: number): void;
  /** Told when somebody wants this to end. */
  readonly signal: AbortSignal;
};

/** Whatever is opened in it is closed at its end, in the reverse order, and also when it is interrupted or fails. */
export async function withBench(measure: (bench: Bench) => Promise<void>): Promise<void> {
  const ended = new AbortController();
  for (const signal of ['SIGINT', 'SIGTERM'] as const) process.once(signal, () => ended.abort(new Error(signal)));
  const { tell, step } = teller();
  try {
    await withEnding((until) => measure({ ...until, signal: ended.signal, generator: openGenerator(until, ended.signal), tell, step }));
  } catch (error) {
    if (!ended.signal.aborted) throw error;
    tell('interrupted');
    process.exitCode = 130;
  }
}

/** What is opened for `work` is closed after it. */
export async function withEnding(work: (until: Ending) => Promise<unknown>): Promise<void> {
  await using held = new AsyncDisposableStack();
  await work({ after: (undo) => held.defer(async () => undo()) });
}

/** On a terminal the rounds are counted on one line; elsewhere each is a dot. */
function teller(): Pick<Bench, 'tell' | 'step'> {
  const { stderr } = process;
  let isOpen = false;
  return {
    tell(line) {
      stderr.write(`${isOpen ? '\n' : ''}${line}\n`);
      isOpen = false;
    },
    step(round, rounds) {
      stderr.write(stderr.isTTY ? `\rround ${round} of ${rounds}` : '.');
      isOpen = round < rounds;
      if (!isOpen) stderr.write('\n');
    },
  };
}
