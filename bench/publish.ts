import { mkdirSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { performancePages } from '../tools/reference/performance.ts';
import { repository } from './portcullis.ts';
import type { Results } from './results.ts';

/** Keeps what a run found among the docs, and writes anew the page and the charts that show it. */
export function publish(results: Results): void {
  write(`docs/performance/${results.what}.json`, asJson(results));
  for (const [path, text] of Object.entries(performancePages())) write(path, text);
}

/** With as many digits as mean anything. */
export const asJson = (results: Results): string =>
  `${JSON.stringify(results, (_, value: unknown) => (typeof value === 'number' ? Number(value.toPrecision(5)) : value), 2)}\n`;

function write(path: string, text: string): void {
  mkdirSync(dirname(join(repository, path)), { recursive: true });
  writeFileSync(join(repository, path), text);
}
