import assert from 'node:assert/strict';
import { SocketAddress } from 'node:net';
import { test } from 'node:test';
import fc from 'fast-check';
import { addressBlock, normaliseAddress } from '../src/address.ts';

test('each address has one spelling', () => {
  const spellings: [given: string, kept: string][] = [
    ['203.0.113.7', '203.0.113.7'],
    ['::ffff:203.0.113.7', '203.0.113.7'],
    ['::FFFF:cb00:7107', '203.0.113.7'],
    ['0:0:0:0:0:ffff:203.0.113.7', '203.0.113.7'],
    ['::', '::'],
    ['::1', '::1'],
    ['1::', '1::'],
    ['2001:DB8:0:0:0:0:0:1', '2001:db8::1'],
    ['2001:0db8:0000:0001:0001:0001:0001:0001', '2001:db8:0:1:1:1:1:1'], // one zero group is not shortened
    ['2001:db8:0:0:1:0:0:1', '2001:db8::1:0:0:1'], // the first of two equal runs
    ['2001:0:0:1:0:0:0:1', '2001:0:0:1::1'], // the longer run
    ['64:ff9b::203.0.113.7', '64:ff9b::cb00:7107'],
    ['::203.0.113.7', '::cb00:7107'], // IPv4-compatible is not IPv4-mapped
    ['fe80::1%eth0', 'fe80::1'],
    ['1:2:3:4:5:6:7:8', '1:2:3:4:5:6:7:8'],
  ];
  for (const [given, kept] of spellings) assert.equal(normaliseAddress(given), kept, given);
});

test('what is not an address is refused', () => {
  for (const text of [
    '',
    '203.0.113',
    '203.0.113.007',
    '203.0.113.7:80',
    ' 203.0.113.7',
    '1::2::3',
    '[::1]',
    'localhost',
    '0x7f.1',
    '::ffff:1.2.3.256',
  ])
    assert.throws(() => normaliseAddress(text), TypeError, text);
});

test('an IPv6 subscriber is counted by the /64, an IPv4 one by the address', () => {
  assert.equal(addressBlock('203.0.113.7'), '203.0.113.7');
  assert.equal(addressBlock('2001:db8:1:2:3:4:5:6'), '2001:db8:1:2::/64');
  assert.equal(addressBlock('2001:db8:1:2::'), '2001:db8:1:2::/64');
  assert.equal(addressBlock('2001:db8::1'), '2001:db8::/64');
  assert.equal(addressBlock('::1'), '::/64');
});

test('or by any other prefix, to the bit', () => {
  const full = '2001:db8:ffff:ffff:ffff:ffff:ffff:ffff';
  for (const [prefix, block] of [
    [32, '2001:db8::'],
    [33, '2001:db8:8000::'],
    [47, '2001:db8:fffe::'],
    [48, '2001:db8:ffff::'],
    [56, '2001:db8:ffff:ff00::'],
    [127, '2001:db8:ffff:ffff:ffff:ffff:ffff:fffe'],
    [128, full],
  ] as const)
    assert.equal(addressBlock(full, prefix), `${block}/${prefix}`);
  assert.equal(addressBlock('203.0.113.7', 32), '203.0.113.7');
});

test('however an address is spelled, the spelling kept is the same, is an address, and is kept', () => {
  fc.assert(
    fc.property(fc.ipV6(), (text) => {
      const kept = normaliseAddress(text);
      assert.equal(normaliseAddress(kept), kept);
      assert.equal(normaliseAddress(text.toUpperCase()), kept);
      const full = new SocketAddress({ address: text, family: 'ipv6' }).address; // the platform's own spelling of the same address
      assert.equal(normaliseAddress(full), kept);
    }),
  );
});
