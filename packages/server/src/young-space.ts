import { setFlagsFromString } from 'node:v8';

/**
 * V8 doubles the space for what is new whenever much of it turns out to stay. While modules are read all of it stays, so
 * it would grow to 16 MB and keep them; held small meanwhile, that memory is free, and starting takes no longer.
 */
export const holdYoungSpace = (): void => setFlagsFromString('--semi-space-growth-factor=1');

/** As V8 has it by itself: under load it grows to what is best for load. */
export const letYoungSpaceGrow = (): void => setFlagsFromString('--semi-space-growth-factor=2');
