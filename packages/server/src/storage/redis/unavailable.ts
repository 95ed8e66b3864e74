import { Problem } from '../../domain/problem.ts';

/** Takes a Redis that is away for no answer; any other error is thrown on. */
export function unlessUnavailable(error: unknown): undefined {
  if (error instanceof Problem && error.code === 'unavailable') return undefined;
  throw error;
}
