import { gzipSync } from 'node:zlib';
import type { ProblemCode } from '../../packages/server/src/domain/problem.ts';

/** What is sent to `POST /login`, in words for `docs/reference/bodies.md`, and what it gets. */
export type Sent = {
  readonly what: string;
  readonly gets: ProblemCode | 'read';
  readonly bodies: readonly (string | Buffer)[];
  /** In place of `Content-Type: application/json`; each with each body. */
  readonly types?: readonly string[];
  readonly headers?: Readonly<Record<string, string>>;
};

const good = '{"username":"testuser","password":"password123"}';
/** The good body with more of this before its fields. */
const withMore = (text: string): string => `{${text},${good.slice(1)}`;
const bytes = (...inName: number[]): Buffer => Buffer.concat([Buffer.from('{"username":"'), Buffer.from(inName), Buffer.from('","password":"password123"}')]);
const nested = (depth: number): string => `{"username":${'['.repeat(depth - 1)}${']'.repeat(depth - 1)}}`;
const fields = (username: unknown, password: unknown): string => JSON.stringify({ username, password });

export const bodies: readonly Sent[] = [
  { what: 'the fields that the route takes, as text', gets: 'read', bodies: [good] },
  { what: 'blanks around the document', gets: 'read', bodies: [` \r\n\t${good} \r\n`] },
  { what: 'a field twice: the last one counts', gets: 'read', bodies: [withMore('"username":"nobody"'), withMore('"username":["alice"]'), withMore('"user\\u006eame":1')] },
  { what: 'another spelling of the username: case, compatibility forms, blanks', gets: 'read', bodies: [fields('TestUser', 'password123'), fields(' ｔｅｓｔuser\t', 'password123')] },
  { what: 'another spelling of the password: it is another password', gets: 'credentials_invalid', bodies: ['password123\0', 'password123 ', ' password123', 'Password123', 'ｐassword123', ''].map((password) => fields('testuser', password)) },
  { what: 'a NUL in the username', gets: 'credentials_invalid', bodies: [fields('testuser\0', 'password123'), fields('\0', 'password123')] },
  { what: 'forbidden keys as values', gets: 'credentials_invalid', bodies: [fields('__proto__', 'x'), fields('{"__proto__":1}', 'constructor')] },
  { what: 'up to 16 KiB', gets: 'read', bodies: [good.padEnd(16_384)] },
  { what: 'more than 16 KiB', gets: 'body_too_large', bodies: [good.padEnd(16_385), '['.repeat(100_000), '\0'.repeat(300_000)] },

  { what: 'no body, or an empty one', gets: 'body_invalid', bodies: [''] },
  { what: 'JSON that is no object', gets: 'body_invalid', bodies: ['null', '[]', '"x"', '1', '-1e400', 'true', `[${good}]`] },
  { what: 'a field missing', gets: 'body_invalid', bodies: ['{}', '{"username":"testuser"}', '{"password":"password123"}', '{"Username":"testuser","password":"password123"}'] },
  { what: 'a field too many', gets: 'body_invalid', bodies: ['"x":1', '"":1', '"transport":null', '"constructor":1', '"constructor":null', '"toString":1', '"hasOwnProperty":1'].map(withMore) },
  { what: 'a field of another type: never coerced', gets: 'body_invalid', bodies: [['testuser'], 1, true, null, {}, { toString: 'testuser' }, [['testuser']]].flatMap((wrong) => [fields(wrong, 'password123'), fields('testuser', wrong)]) },
  { what: 'a number beyond all bounds', gets: 'body_invalid', bodies: [`{"username":1e400,"password":"x"}`, `{"username":"testuser","password":${'9'.repeat(400)}}`] },
  { what: 'text longer than any field', gets: 'body_invalid', bodies: [fields('x'.repeat(1_025), 'x'), fields('testuser', 'x'.repeat(4_097))] },
  { what: 'a lone surrogate, which has no UTF-8', gets: 'body_invalid', bodies: ['\\ud800', '\\udfff', '\\udc00\\ud800', 'x\\ud800x'].flatMap((text) => [`{"username":"${text}","password":"x"}`, `{"username":"testuser","password":"${text}"}`]) },
  { what: 'nested up to 16 deep', gets: 'body_invalid', bodies: [nested(16)] },

  { what: 'nested deeper', gets: 'body_malformed', bodies: [nested(17), '['.repeat(17), '['.repeat(8_000), '{"a":'.repeat(3_000)] },
  { what: 'what is no JSON', gets: 'body_malformed', bodies: [' ', 'x', 'undefined', 'NaN', "{'username':'testuser'}", '{"username":NaN,"password":"x"}', `/**/${good}`, 'username=testuser&password=password123', '{"username":01,"password":"x"}'] },
  { what: 'JSON that stops short, or goes on', gets: 'body_malformed', bodies: [good.slice(0, -1), good.slice(0, 20), `${good}x`, good + good, `${good}\0`, withMore('').replace('{,', '{,,'), `${good.slice(0, -1)},}`] },
  { what: 'a raw control character in a text', gets: 'body_malformed', bodies: [bytes(0), bytes(0x0a), bytes(0x1f)] },
  { what: 'the key `__proto__`, or `prototype` in `constructor`, however written, at any depth', gets: 'body_malformed', bodies: [
    '"__proto__":{"x":1}', '"__proto__":null', '"\\u005f_proto__":{}', '"\\u005F\\u005f\\u0070roto\\u005f_":{}', '"x":{"__proto__":{}}', '"x":[{"__proto__":1}]',
    '"constructor":{"prototype":{}}', '"con\\u0073tructor":{"prototype":{}}', '"constructor":{"\\u0070rototype":{}}', '"x":{"constructor":{"prototype":{}}}',
  ].map(withMore) },
  { what: 'bytes that are no UTF-8', gets: 'body_malformed', bodies: [bytes(0xff), bytes(0xe9), bytes(0xc0, 0xaf), bytes(0xed, 0xa0, 0x80), bytes(0xf5, 0x80, 0x80, 0x80), bytes(0xc3)] },
  { what: 'UTF-16', gets: 'body_malformed', bodies: [Buffer.from(good, 'utf16le'), Buffer.from(good, 'utf16le').swap16(), Buffer.from(`\ufeff${good}`, 'utf16le')] },
  { what: 'a byte order mark', gets: 'body_malformed', bodies: [`\ufeff${good}`, '\ufeff'] },

  { what: '`Content-Type: application/json`, in any case, with `charset=utf-8` or nothing', gets: 'read', bodies: [good], types: ['application/json', 'APPLICATION/JSON', 'application/json;charset=utf-8', 'application/json; charset=UTF-8', 'application/json; charset="utf-8"'] },
  { what: 'another charset or parameter', gets: 'media_type_unsupported', bodies: [good], types: ['application/json; charset=latin1', 'application/json;charset=utf-16', 'application/json; x=y', 'application/json; charset=utf-8; charset=latin1', 'application/json; charset=utf-8; x'] },
  { what: 'another type, or one that only begins like it', gets: 'media_type_unsupported', bodies: [good], types: [
    'text/plain', 'text/json', 'application/x-www-form-urlencoded', 'multipart/form-data; boundary=x', 'application/problem+json', 'application/jsonp', 'application/json/x', 'application/json\ta',
    'application/json text/plain', 'application/json, text/plain', 'application/*', '*/*', 'json', 'x', '',
  ] },
  { what: 'a body in a `Content-Encoding`', gets: 'encoding_unsupported', bodies: [good, gzipSync(good)], headers: { 'content-encoding': 'gzip' } },
  { what: '`Content-Encoding: identity`', gets: 'read', bodies: [good], headers: { 'content-encoding': 'identity' } },
];
