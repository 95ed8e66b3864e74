import assert from 'node:assert/strict';
import { globSync, readFileSync } from 'node:fs';
import { dirname, join, normalize } from 'node:path';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';

const root = fileURLToPath(new URL('..', import.meta.url));
const files = globSync('packages/*/src/**/*.ts', { cwd: root });
const textOf = (file: string): string => readFileSync(join(root, file), 'utf8');
const importsOf = (file: string): string[] =>
  [...textOf(file).matchAll(/(?:from|import\(|^import) ?'([^']+)'/gm)].map(([, name = '']) =>
    name.startsWith('.') ? normalize(join(dirname(file), name)) : name,
  );

/** Each floor with the floors that it may stand on; its own is always one of them. */
const floors: Record<string, readonly string[]> = {
  lib: [],
  settings: ['lib'],
  domain: ['lib'],
  flows: ['domain', 'lib'],
  storage: ['domain', 'lib'],
  http: ['flows', 'domain', 'lib'],
  roof: ['http', 'flows', 'storage', 'domain', 'settings', 'lib'],
  cli: ['roof', 'http', 'flows', 'storage', 'domain', 'settings', 'lib'],
  main: ['cli', 'roof'],
};
const floorOf = (file: string): string => {
  const [, floor = ''] = /^packages\/server\/src\/(?:(\w+)\/)?/.exec(file) ?? [];
  return floor || (file.endsWith('/main.ts') ? 'main' : 'roof');
};

/** Who alone may know what. */
const keepers: readonly { what: string; is: RegExp; known: RegExp }[] = [
  { what: 'SQL', is: /^(kysely|kysely\/.*|pg|node:sqlite)$/, known: /^packages\/server\/src\/storage\/sql\// },
  { what: 'Redis', is: /^@?redis/, known: /^packages\/server\/src\/storage\/redis\/|^packages\/guard\/src\/redis-/ },
  {
    what: 'Fastify',
    is: /^@?fastify/,
    known: /^packages\/server\/src\/(http\/|app\.ts)|^packages\/guard\/src\/(guard|gate|gates|answer|route-table)\.ts/,
  },
  { what: 'jose', is: /^jose$/, known: /^packages\/guard\/src\/(access-token|keys)\.ts|^packages\/server\/src\/domain\/(token|key)\// },
];
const words: readonly { what: string; is: RegExp; known: RegExp }[] = [
  { what: 'the time', is: /\bDate\.now\(|\bnew Date\(\)|\bperformance\.now\(|\bhrtime\b/, known: /^packages\/guard\/src\/clock\.ts$/ },
  {
    what: 'chance',
    is: /\bMath\.random\b|\brandom(Bytes|UUID|UUIDv7|Int|FillSync)\b.*from 'node:crypto'|\bgetRandomValues\b/,
    known: /^packages\/(server\/src\/lib\/(secret|id)|guard\/src\/id)\.ts$/,
  },
  { what: 'the environment', is: /\bprocess\.(env|argv)\b/, known: /^packages\/server\/src\/main\.ts$/ },
];

const isProof = (file: string): boolean => file.endsWith('conformance.ts');

test('a file imports its own floor and those below', () => {
  assert.ok(files.length > 50);
  for (const file of files.filter((name) => name.startsWith('packages/server/') && !isProof(name))) {
    for (const name of importsOf(file).filter((imported) => imported.startsWith('packages/') && imported.endsWith('.ts'))) {
      assert.ok(name.startsWith('packages/server/src/'), `${file} reaches into another package: ${name}`);
      assert.ok(
        floorOf(name) === floorOf(file) || floors[floorOf(file)]?.includes(floorOf(name)),
        `${file} (${floorOf(file)}) imports ${name} (${floorOf(name)})`,
      );
    }
  }
});

test('guard knows nothing of the server', () => {
  for (const file of files.filter((name) => name.startsWith('packages/guard/'))) {
    for (const name of importsOf(file)) assert.ok(!name.includes('server/') && name !== 'portcullis', `${file} imports ${name}`);
  }
});

test('what only its keeper may know', () => {
  for (const file of files.filter((name) => !isProof(name))) {
    for (const { what, is, known } of keepers)
      for (const name of importsOf(file)) assert.ok(!is.test(name) || known.test(file), `${file} knows ${what}: ${name}`);
    const code = textOf(file).replace(/\/\*[\s\S]*?\*\/|\/\/.*/g, '');
    for (const { what, is, known } of words) assert.ok(!is.test(code) || known.test(file), `${file} knows ${what}`);
  }
});
