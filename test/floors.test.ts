import assert from 'node:assert/strict';
import { globSync, readFileSync } from 'node:fs';
import { dirname, join, matchesGlob, normalize } from 'node:path';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';

const root = fileURLToPath(new URL('..', import.meta.url));
const files = globSync('packages/*/src/**/*.ts', { cwd: root });
const textOf = (file: string): string => readFileSync(join(root, file), 'utf8');
const wordsOf = (file: string): string[] => [textOf(file).replace(/\/\*[\s\S]*?\*\/|\/\/.*/g, '')];
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

/** What each store must do, as tests that ship beside it. */
const proofs = ['packages/guard/src/*-conformance.ts', 'packages/server/src/domain/*/conformance.ts'];

/** Who alone may know what; each of them is there, and does. */
type Keeper = { readonly what: string; readonly is: RegExp; readonly known: readonly string[] };
const keepers: readonly Keeper[] = [
  { what: 'SQL', is: /^(kysely|kysely\/.*|pg|node:sqlite)$/, known: ['packages/server/src/storage/sql/*.ts'] },
  { what: 'Redis', is: /^@?redis/, known: ['packages/server/src/storage/redis/*.ts'] },
  {
    what: 'Fastify',
    is: /^@?fastify/,
    known: [
      'packages/server/src/http/*.ts',
      'packages/server/src/app.ts',
      ...['guard', 'gate', 'answer', 'route-table'].map((name) => `packages/guard/src/${name}.ts`),
    ],
  },
  {
    what: 'jose',
    is: /^jose(\/|$)/,
    known: [
      ...['access-token', 'keys', 'signature'].map((name) => `packages/guard/src/${name}.ts`),
      ...['token/access-token', 'key/key-material', 'key/key-ring'].map((name) => `packages/server/src/domain/${name}.ts`),
    ],
  },
  { what: 'tests', is: /^(node:test|fast-check)$/, known: proofs },
];
const words: readonly Keeper[] = [
  { what: 'the time', is: /\bDate\.now\(|\bnew Date\(\)|\bperformance\.now\(|\bhrtime\b/, known: ['packages/guard/src/clock.ts'] },
  {
    what: 'chance',
    is: /\bMath\.random\b|\brandom(Bytes|UUID|UUIDv7|Int|FillSync)\b.*from 'node:crypto'|\bgetRandomValues\b/,
    known: ['packages/server/src/lib/secret.ts', 'packages/server/src/lib/id.ts', 'packages/guard/src/id.ts'],
  },
  { what: 'the environment', is: /\bprocess\.(env|argv)\b/, known: ['packages/server/src/main.ts'] },
];

test('a file imports its own floor and those below', () => {
  assert.ok(files.length > 50);
  for (const file of files.filter((name) => name.startsWith('packages/server/'))) {
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
  for (const [says, all] of [
    [importsOf, keepers],
    [wordsOf, words],
  ] as const) {
    for (const { what, is, known } of all) {
      const knowing = files.filter((file) => says(file).some((said) => is.test(said)));
      for (const file of knowing)
        assert.ok(
          known.some((path) => matchesGlob(file, path)),
          `${file} knows ${what}`,
        );
      for (const path of known)
        assert.ok(
          knowing.some((file) => matchesGlob(file, path)),
          `${path} is said to know ${what}, and no such file does`,
        );
    }
  }
});
