export { type Running, start, type StartOptions } from './start.ts';
