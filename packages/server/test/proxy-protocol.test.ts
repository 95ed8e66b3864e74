import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { readProxyHeader } from '../src/http/wire/proxy-protocol.ts';

const signature = [0x0d, 0x0a, 0x0d, 0x0a, 0x00, 0x0d, 0x0a, 0x51, 0x55, 0x49, 0x54, 0x0a];
const u16 = (value: number): number[] => [value >> 8, value & 255];
const binary = (versionAndCommand: number, familyAndProtocol: number, rest: readonly number[], length = rest.length): Buffer =>
  Buffer.from([...signature, versionAndCommand, familyAndProtocol, ...u16(length), ...rest]);
const part = (type: number, value: readonly number[]): number[] => [type, ...u16(value.length), ...value];

const v4 = [203, 0, 113, 7, 10, 0, 0, 5, 0x12, 0x67, 0x13, 0x88];
const v6 = [0x20, 1, 0x0d, 0xb8, ...Array<number>(11).fill(0), 1, 0x20, 1, 0x0d, 0xb8, ...Array<number>(11).fill(0), 2, 0, 1, 0, 2];
const unix = Array<number>(216).fill(0);
/** Used TLS, no certificate, with the version of TLS as a part of its own. */
const ssl = part(0x20, [1, 0, 0, 0, 0, ...part(0x21, [...Buffer.from('TLSv1.3')])]);
const noSsl = part(0x20, [0, 0, 0, 0, 0]);

const seen = (header: string | Buffer, more: string | Buffer = ''): unknown =>
  readProxyHeader(Buffer.concat([Buffer.from(header), Buffer.from(more)]));
const wrong = (header: string | Buffer, what: string): void => assert.ok(Object.hasOwn(Object(seen(header)), 'wrong'), what);

test('version 1', () => {
  for (const [line, address] of [
    ['PROXY TCP4 203.0.113.7 10.0.0.5 4711 443', '203.0.113.7'],
    ['PROXY TCP4 255.255.255.255 255.255.255.255 65535 65535', '255.255.255.255'],
    ['PROXY TCP6 2001:db8::1 2001:db8::2 4711 443', '2001:db8::1'],
    [
      'PROXY TCP6 ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff 65535 65535',
      'ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff',
    ],
    ['PROXY UNKNOWN', undefined],
    ['PROXY UNKNOWN ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff 65535 65535', undefined],
    ['PROXY UNKNOWN \0\n whatever', undefined],
  ] as const)
    assert.deepEqual(seen(`${line}\r\n`, 'GET / HTTP/1.1\r\nx: 50%\r\n'), { address, encrypted: false, length: line.length + 2 }, line);
});

test('what is no line of version 1', () => {
  for (const line of [
    'PROXY',
    'PROXY ',
    'PROXY  TCP4 1.1.1.1 2.2.2.2 1 2',
    'PROXY TCP4 1.1.1.1 2.2.2.2 1',
    'PROXY TCP4 1.1.1.1 2.2.2.2 1 2 ',
    'PROXY TCP4 1.1.1.1 2.2.2.2 1 2 3',
    'PROXY TCP4 1.1.1.1  2.2.2.2 1 2',
    'PROXY TCP4 1.1.1.1 2.2.2.2 01 2',
    'PROXY TCP4 1.1.1.1 2.2.2.2 1 65536',
    'PROXY TCP4 1.1.1.1 2.2.2.2 1 -2',
    'PROXY TCP4 1.1.1.01 2.2.2.2 1 2',
    'PROXY TCP4 1.1.1.1 host 1 2',
    'PROXY TCP4 ::1 ::2 1 2',
    'PROXY TCP6 1.1.1.1 2.2.2.2 1 2',
    'PROXY TCP6 fe80::1%eth0 ::2 1 2',
    'PROXY TCP6 [::1] ::2 1 2',
    'PROXY UDP4 1.1.1.1 2.2.2.2 1 2',
    'PROXY constructor 1.1.1.1 2.2.2.2 1 2',
    'PROXY tcp4 1.1.1.1 2.2.2.2 1 2',
    'PROXY UNKNOWNS',
    'PROXY TCP4\t1.1.1.1 2.2.2.2 1 2',
    'PROXY TCP4 1.1.1.1 2.2.2.2 1 2\n',
    'proxy TCP4 1.1.1.1 2.2.2.2 1 2',
  ])
    wrong(`${line}\r\n`, line);
  wrong(`PROXY UNKNOWN ${'x'.repeat(92)}\r\n`, 'a line of 108 bytes');
  assert.equal(typeof seen(`PROXY UNKNOWN ${'x'.repeat(91)}\r\n`), 'object', 'and of 107');
  wrong(`PROXY UNKNOWN ${'x'.repeat(93)}`, 'no end in 107 bytes');
});

test('version 2', () => {
  const client = { encrypted: false, length: 28 };
  for (const [header, found] of [
    [binary(0x21, 0x11, v4), { ...client, address: '203.0.113.7' }],
    [binary(0x21, 0x12, v4), { ...client, address: '203.0.113.7' }], // QUIC, passed on over TCP
    [binary(0x21, 0x21, v6), { ...client, address: '2001:db8:0:0:0:0:0:1', length: 52 }],
    [binary(0x21, 0x11, [...v4, ...ssl]), { address: '203.0.113.7', encrypted: true, length: 28 + ssl.length }],
    [binary(0x21, 0x11, [...v4, ...noSsl]), { ...client, address: '203.0.113.7', length: 36 }],
    [binary(0x21, 0x11, [...v4, ...part(0x20, [1])]), { ...client, address: '203.0.113.7', length: 32 }],
    [binary(0x21, 0x11, [...v4, ...part(0x20, [0xfe, 0, 0, 0, 0])]), { ...client, address: '203.0.113.7', length: 36 }],
    [
      binary(0x21, 0x11, [...v4, ...part(0x04, [0, 0]), ...part(0x04, []), ...part(0xea, [1]), ...ssl]),
      { address: '203.0.113.7', encrypted: true, length: 28 + 5 + 3 + 4 + ssl.length },
    ],
    [binary(0x21, 0x31, unix), { ...client, address: undefined, length: 232 }],
    [binary(0x21, 0x00, []), { ...client, address: undefined, length: 16 }],
    [binary(0x21, 0x00, [1, 2, 3]), { ...client, address: undefined, length: 19 }],
    [binary(0x20, 0x00, []), { ...client, address: undefined, length: 16 }],
    [binary(0x20, 0x11, [...v4, ...ssl]), { ...client, address: undefined, length: 28 + ssl.length }], // whatever LOCAL says is passed over
    [binary(0x20, 0xff, [9]), { ...client, address: undefined, length: 17 }],
  ] as const)
    assert.deepEqual(seen(header, Buffer.from([0x16, 3, 1])), found, header.toString('hex'));
});

test('what is no header of version 2', () => {
  for (const [header, what] of [
    [binary(0x11, 0x11, v4), 'version 1 in binary'],
    [binary(0x31, 0x11, v4), 'version 3'],
    [binary(0x22, 0x11, v4), 'an unknown command'],
    [binary(0x21, 0x41, v4), 'an unknown family'],
    [binary(0x21, 0x13, v4), 'an unknown protocol'],
    [binary(0x21, 0x11, v4.slice(1)), 'IPv4, too short'],
    [binary(0x21, 0x21, v6.slice(1)), 'IPv6, too short'],
    [binary(0x21, 0x31, unix.slice(1)), 'Unix, too short'],
    [binary(0x21, 0x11, [...v4, 0x20]), 'a part without a length'],
    [binary(0x21, 0x11, [...v4, 0x20, 0, 9, 1]), 'a part beyond the end'],
    [binary(0x21, 0x11, [...v4, ...noSsl, ...ssl]), 'two words for TLS'],
    [binary(0x21, 0x11, v4, 4_081), 'longer than 4 KiB'],
    [Buffer.from([...signature.slice(0, -1), 0x0b]), 'another signature'],
    [Buffer.from('GET / HTTP/1.1\r\n'), 'a request'],
    [Buffer.from([0x16, 3, 1, 2, 0]), 'TLS'],
  ] as const)
    wrong(header, what);
});

test('a checksum must fit where there is one', () => {
  // Worked out with another implementation of CRC-32C.
  const summed = (sum: number[]) => binary(0x21, 0x11, [...v4, ...part(0x03, sum)]);
  assert.deepEqual(seen(summed([0, 0, 0, 0])), { wrong: 'PROXY header: wrong checksum' });
  assert.deepEqual(seen(summed([1, 2, 3])), { wrong: 'PROXY header: wrong checksum' });
  const right = summed([0xc8, 0x2a, 0x11, 0xe4]);
  assert.deepEqual(seen(right), { address: '203.0.113.7', encrypted: false, length: 35 });
  for (let at = 16; at < 28; at++) {
    const bent = Buffer.from(right);
    bent.writeUInt8(bent.readUInt8(at) ^ 1, at);
    assert.deepEqual(seen(bent), { wrong: 'PROXY header: wrong checksum' });
  }
});

const headers = fc.oneof(
  fc.constantFrom(
    Buffer.from('PROXY TCP4 203.0.113.7 10.0.0.5 4711 443\r\n'),
    Buffer.from('PROXY UNKNOWN x\r\n'),
    binary(0x21, 0x11, [...v4, ...ssl]),
    binary(0x21, 0x21, v6),
    binary(0x20, 0, []),
  ),
  fc.tuple(fc.ipV4(), fc.nat(65_535)).map(([address, port]) => Buffer.from(`PROXY TCP4 ${address} 10.0.0.5 ${port} 443\r\n`)),
  fc.tuple(fc.ipV6(), fc.nat(65_535)).map(([address, port]) => Buffer.from(`PROXY TCP6 ${address} ::1 ${port} 443\r\n`)),
);

test('in whatever pieces it comes, it is complete with its last byte, and what follows is not looked at', () => {
  fc.assert(
    fc.property(headers, fc.uint8Array({ maxLength: 50 }), (header, after) => {
      for (let length = 0; length < header.length; length++) assert.equal(seen(header.subarray(0, length)), 'more');
      const found = seen(header);
      assert.deepEqual(seen(header, Buffer.from(after)), found);
      assert.equal(Object(found).length, header.length);
    }),
  );
});

test('any bytes are a header, the beginning of one, or none; and none is waited for beyond 4 KiB', () => {
  const start = fc.oneof(fc.constant(Buffer.from('PROXY ')), fc.constant(Buffer.from(signature)), headers);
  fc.assert(
    fc.property(start, fc.uint8Array({ maxLength: 60 }), fc.uint8Array({ minLength: 4_096, maxLength: 4_096 }), (begin, bytes, more) => {
      const text = Buffer.concat([begin, bytes]);
      const found = readProxyHeader(text);
      if (found !== 'more' && 'length' in found) assert.ok(found.length <= text.length);
      assert.notEqual(readProxyHeader(Buffer.concat([text, more])), 'more');
    }),
  );
});
