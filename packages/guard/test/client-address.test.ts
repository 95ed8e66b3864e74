import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { addressBlock, trustedProxies } from '../src/index.ts';
import { clientAddress, forwardedAddress } from '../src/client-address.ts';

const isProxy = trustedProxies(['10.0.0.0/8', '192.0.2.1', '2001:db8:aaaa::/48']);

test('an address and the block that limits count by', () => {
  assert.deepEqual(clientAddress('203.0.113.7'), { address: '203.0.113.7', block: '203.0.113.7' });
  assert.deepEqual(clientAddress('::ffff:203.0.113.7'), { address: '203.0.113.7', block: '203.0.113.7' });
  assert.deepEqual(clientAddress('2001:DB8:1:2:3:4:5:6'), { address: '2001:db8:1:2:3:4:5:6', block: '2001:db8:1:2::/64' });
});

test('a proxy is declared by its address or its block', () => {
  for (const address of ['10.0.0.1', '10.255.255.255', '192.0.2.1', '2001:db8:aaaa::1']) assert.ok(isProxy(address), address);
  for (const address of ['11.0.0.1', '192.0.2.2', '2001:db8:aaab::1', '203.0.113.7']) assert.ok(!isProxy(address), address);
  assert.equal(trustedProxies([])('127.0.0.1'), false);
  for (const entry of ['', 'localhost', '10.0.0', '10.0.0.0/', '10.0.0.0/x', '10.0.0.0/33', '::/129', '10.0.0.0/-1', '10.0.0.0/8/8', '*']) {
    assert.throws(
      () => trustedProxies(['10.0.0.1', entry]),
      (error: Error) => error.message.includes(`"${entry}"`),
      entry,
    );
  }
});

test('the caller is the first hop from the right that no proxy vouches for', () => {
  const hops: [forwardedFor: string, caller: string][] = [
    ['', '10.0.0.1'],
    ['203.0.113.7', '203.0.113.7'],
    ['198.51.100.1, 203.0.113.7', '203.0.113.7'], // the left one, anyone may have written
    ['198.51.100.1, 203.0.113.7, 10.1.1.1', '203.0.113.7'],
    ['203.0.113.7,192.0.2.1 ,10.1.1.1', '203.0.113.7'],
    ['10.2.2.2, 10.1.1.1', '10.2.2.2'],
    ['203.0.113.7:4711', '203.0.113.7'],
    ['[2001:db8::1]:4711', '2001:db8::1'],
    ['[2001:db8::1]', '2001:db8::1'],
    ['2001:DB8:0::1', '2001:db8::1'],
    ['::ffff:203.0.113.7', '203.0.113.7'],
    ['203.0.113.7, 2001:db8:aaaa::9', '203.0.113.7'],
    // What is no address ends the walk at the last good hop
    ['unknown', '10.0.0.1'],
    ['203.0.113.7, unknown', '10.0.0.1'],
    ['203.0.113.7, _hidden, 10.1.1.1', '10.1.1.1'],
    ['203.0.113.7, , 10.1.1.1', '10.1.1.1'],
    ['203.0.113.7;', '10.0.0.1'],
    ['203.0.113.7:port', '10.0.0.1'],
    ['fe80::1%eth0', '10.0.0.1'],
    ['203.0.113.007', '10.0.0.1'],
    ['0x7f.1', '10.0.0.1'],
    ['<script>', '10.0.0.1'],
  ];
  for (const [forwardedFor, caller] of hops)
    assert.equal(forwardedAddress('10.0.0.1', forwardedFor, isProxy), caller, JSON.stringify(forwardedFor));
});

test('whatever a caller writes to the left, the hop that our proxy wrote is believed', () => {
  fc.assert(
    fc.property(fc.string(), (written) => {
      assert.equal(forwardedAddress('10.0.0.1', `${written}, 203.0.113.7, 10.1.1.1`, isProxy), '203.0.113.7');
    }),
  );
});

test('any header gives an address that has a block', () => {
  const hop = fc.oneof(fc.ipV4(), fc.ipV6(), fc.string(), fc.constantFrom('', 'unknown', '10.0.0.1'));
  fc.assert(
    fc.property(fc.array(hop), (hops) => {
      assert.ok(addressBlock(forwardedAddress('10.0.0.1', hops.join(','), isProxy)).length > 0);
    }),
  );
});
