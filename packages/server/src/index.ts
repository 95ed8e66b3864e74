export type { Running } from './running.ts';
export { start, type StartOptions } from './start.ts';
