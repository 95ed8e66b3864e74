import type { Results } from './results.ts';
export function publish(_: Results): void {}
