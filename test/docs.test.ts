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

const withoutComments = (source: string): string => source.replace(/\/\*[^]*?\*\/|(?<!:)\/\/.*/g, '');

/**
 * Whether this code refuses by that name: `Problem('…'`, `refusal('…'`, `problem: '…'`, a `return`, or a row that maps
 * a CODE of Node's or Fastify's to it; by itself or as a branch. In a type or a comparison, a name refuses nothing.
 */
const refusesBy = (name: string, code: string): boolean =>
  new RegExp(`(\\b(Problem(<\\w+>)?|refusal)\\(|\\bproblem: |\\breturn |\\b[A-Z][A-Z\\d_]+: )([^;{}]*[?:]\\s*)?'${name}'`).test(code);

test('each problem is thrown somewhere, and none is thrown that has no row', () => {
  const code = globSync('packages/*/src/**/*.ts', { cwd: root })
    .filter((file) => !file.endsWith('problem.ts'))
    .map((file) => withoutComments(read(file)))
    .join('\n');
  for (const name of Object.keys(problems)) assert.ok(refusesBy(name, code), `nothing throws ${name}`);
  for (const [, name = ''] of code.matchAll(/new (?:Any)?Problem(?:<\w+>)?\('(\w+)'/g))
    assert.ok(Object.hasOwn(problems, name), `${name} has no row`);
});

test('what only speaks of a problem does not throw it', () => {
  for (const source of [
    "throw new Problem('gone');",
    "throw new Problem<string>(isOld ? 'gone' : 'new', 'why');",
    "refusal('gone', true)",
    "return { problem: isOld ? 'old' : 'gone' };",
    "if (isOld) return 'gone';",
    "{ FST_ERR_GONE: 'gone' }",
  ])
    assert.ok(refusesBy('gone', withoutComments(source)), source);
  for (const source of [
    "// throw new Problem('gone');",
    "/** Throws Problem('gone'). */",
    "type Fault = 'old' | 'gone';",
    "if (code === 'gone') return;",
    "return code === 'gone';",
    "throw new Problem(fault, 'gone');",
    "throw new Problem('gone_by');",
    "return add; 'gone'",
  ])
    assert.ok(!refusesBy('gone', withoutComments(source)), source);
});

test('links in the docs lead somewhere', () => {
  for (const page of globSync('{*.md,docs/**/*.md}', { cwd: root })) {
    for (const [, target = ''] of read(page).matchAll(/\]\((?!https?:)([^)#]+)/g)) {
      const path = new URL(target, `file://${root}${page}`);
      assert.ok(globSync(fileURLToPath(path)).length > 0, `${page} links to ${target}`);
    }
  }
});
