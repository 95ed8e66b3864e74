import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { forwardedElements } from '../src/forwarded.ts';

const read = (header: string) => [...forwardedElements(header)].map((element) => element && Object.fromEntries(element));

/** Slow and obvious: RFC 7239 section 4, a letter at a time. `undefined` for what is no element. */
function readSlowly(text: string): Record<string, string> | undefined {
  const pairs: Record<string, string> = {};
  let at = 0;
  const isToken = (letter = ''): boolean => letter !== '' && /[\w!#$%&'*+.^`|~-]/.test(letter);
  const blanks = (): void => {
    while (text[at] === ' ' || text[at] === '\t') at++;
  };
  const token = (): string => {
    const from = at;
    while (isToken(text[at])) at++;
    return text.slice(from, at);
  };
  for (;;) {
    blanks();
    const name = token().toLowerCase();
    if (name !== '') {
      if (name in pairs || text[at++] !== '=') return undefined;
      if (isToken(text[at])) pairs[name] = token();
      else {
        if (text[at++] !== '"') return undefined;
        let value = '';
        while (text[at] !== '"') {
          if (text[at] === '\\') at++;
          if (at >= text.length) return undefined;
          value += text[at++];
        }
        at++;
        pairs[name] = value;
      }
      blanks();
    }
    if (at === text.length) return pairs;
    if (text[at++] !== ';') return undefined;
  }
}

/** The nearest comma behind which all that is left is an element, begins one. */
function readAllSlowly(header: string): (Record<string, string> | undefined)[] {
  const found: (Record<string, string> | undefined)[] = [];
  for (let rest: string | undefined = header; rest !== undefined;) {
    let start: number = rest.length;
    let element: Record<string, string> | undefined;
    for (; start >= 0 && !element; start--) if (start === 0 || rest[start - 1] === ',') element = readSlowly(rest.slice(start));
    found.push(element);
    rest = element && start >= 0 ? rest.slice(0, start) : undefined;
  }
  return found;
}

const letters = fc.string({ unit: fc.constantFrom('a', 'B', '1', '=', '"', '\\', ',', ';', ' ', '[', ':', '_'), maxLength: 30 });
const word = fc.string({ unit: fc.constantFrom('a', 'B', '7', '.', '_'), minLength: 1, maxLength: 4 });
const value = fc.oneof(
  word,
  letters.map((text) => `"${text.replace(/["\\]/g, '\\$&')}"`),
);
const element = fc.array(fc.tuple(word, value), { maxLength: 4 }).map((pairs) => pairs.map((pair) => pair.join('=')).join(';'));

test('any text is read as by a slow and obvious reader', () => {
  fc.assert(
    fc.property(fc.array(fc.oneof(element, letters), { minLength: 1, maxLength: 4 }), (parts) => {
      const header = parts.join(',');
      assert.deepEqual(read(header), readAllSlowly(header));
    }),
    { numRuns: 2_000 },
  );
});

test('a header of elements is read whole', () => {
  assert.deepEqual(read('for=192.0.2.43;Proto="ht\\tps" ,\tfor="[2001:db8::1]:47011"; by="a\\",b\\\\";,host=x'), [
    { host: 'x' },
    { for: '[2001:db8::1]:47011', by: 'a",b\\' },
    { for: '192.0.2.43', proto: 'https' },
  ]);
  assert.deepEqual(read(''), [{}]);
  assert.deepEqual(read('a=1,,b=2'), [{ b: '2' }, {}, { a: '1' }]);
  assert.deepEqual(read('__proto__=1'), [JSON.parse('{"__proto__":"1"}')]);
});

test('what is none ends it, and nothing left of that is looked at', () => {
  for (const wrong of [
    'a',
    'a=',
    '=a',
    'a=b c',
    'a =b',
    'a= b',
    'a="b',
    'a=b"',
    'a="b"c',
    'a=[b]',
    'a=1;a=2',
    'a=1;A=2',
    'ä=1',
    'a="\\"',
    'a=\\"b"',
  ])
    assert.deepEqual(read(`x=1, ${wrong}, y=2`), [{ y: '2' }, undefined], wrong);
});

/** Were they read in more than linear time, these would take minutes. */
test('long headers', () => {
  const long = 300_000;
  for (const part of ['a', ' ', '"', '\\', ',', ';', '=', '"\\', '\\"', 'a=', 'a="', 'a="\\"', 'a=";', ' ;', 'a ', '", ', 'a=b,', 'a="b",'])
    for (const [before, after] of [
      ['', ''],
      ['a="', '"'],
      ['"', '"'],
      ['x=1,', 'a'],
      ['', '"'],
      ['a=b', '='],
      ['', ' x'],
    ] as const)
      for (const _ of forwardedElements(before + part.repeat(long / part.length) + after));
});
