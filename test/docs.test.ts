import assert from 'node:assert/strict';
import { globSync, readFileSync } from 'node:fs';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { problems } from '../packages/server/src/domain/problem.ts';
import { pages } from '../tools/docs.ts';

const root = fileURLToPath(new URL('..', import.meta.url));
const read = (path: string): string => readFileSync(root + path, 'utf8');

for (const [path, text] of Object.entries(pages)) {
  test(`${path} says what the tables say (npm run docs writes it)`, () => assert.equal(read(path), text));
}

test('each problem is thrown somewhere, and none is thrown that has no row', () => {
  const code = globSync('packages/*/src/**/*.ts', { cwd: root })
    .filter((file) => !/problem(-reference)?\.ts$/.test(file))
    .map(read)
    .join('\n');
  for (const name of Object.keys(problems)) assert.ok(code.includes(`'${name}'`), `nothing throws ${name}`);
  for (const [, name = ''] of code.matchAll(/new (?:Any)?Problem(?:<\w+>)?\('(\w+)'/g))
    assert.ok(Object.hasOwn(problems, name), `${name} has no row`);
});

test('links in the docs lead somewhere', () => {
  for (const page of globSync('{*.md,docs/**/*.md}', { cwd: root })) {
    for (const [, target = ''] of read(page).matchAll(/\]\((?!https?:)([^)#]+)/g)) {
      const path = new URL(target, `file://${root}${page}`);
      assert.ok(globSync(fileURLToPath(path)).length > 0, `${page} links to ${target}`);
    }
  }
});
