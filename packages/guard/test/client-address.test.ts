import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { addressBlock, trustedProxies } from '../src/index.ts';
import { clientAddress, forwardedAddress as firstUntrusted } from '../src/client-address.ts';
import { forwardings, type TrustedProxyHeader } from '../src/forwarding.ts';

/** The caller whom this header tells to a server whose peer is a proxy. */
const forwardedAddress = (
  peer: string,
  field: string,
  isProxy: (address: string) => boolean,
  header: TrustedProxyHeader = 'x-forwarded-for',
) => firstUntrusted(peer, forwardings[header].hops({ [header]: field }), isProxy);
const isProxy = trustedProxies(['10.0.0.0/8', '192.0.2.1', '2001:db8:aaaa::/48']);

test('an address and the block that limits count by', () => {
  assert.deepEqual(clientAddress('203.0.113.7'), { address: '203.0.113.7', block: '203.0.113.7' });
  assert.deepEqual(clientAddress('::ffff:203.0.113.7'), { address: '203.0.113.7', block: '203.0.113.7' });
  assert.deepEqual(clientAddress('2001:DB8:1:2:3:4:5:6'), { address: '2001:db8:1:2:3:4:5:6', block: '2001:db8:1:2::/64' });
  assert.equal(clientAddress('2001:DB8:1:2:3:4:5:6', 48).block, '2001:db8:1::/48');
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

test('a block is of its own family, however wide: an IPv6 one has no IPv4 address in it, but for those that are IPv4-mapped', () => {
  for (const wide of ['::1/64', '::/1', '::/64', '2000::/3']) assert.ok(!trustedProxies([wide])('8.8.8.8'), wide);
  assert.ok(!trustedProxies(['0.0.0.0/1'])('::1'));
  const mapped = trustedProxies(['::ffff:10.0.0.0/104', '::ffff:192.0.2.1']);
  assert.deepEqual(
    ['10.9.9.9', '192.0.2.1', '11.0.0.1', '::1'].map((address) => mapped(address)),
    [true, true, false, false],
  );
  for (const everything of ['0.0.0.0/0', '::/0', '::ffff:0:0/96', '::ffff:0:0/90'])
    assert.throws(() => trustedProxies([everything]), /every address/);
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

test('of Forwarded too: the first hop from the right that no proxy vouches for', () => {
  const hops: [forwarded: string, caller: string][] = [
    ['', '10.0.0.1'],
    ['for=203.0.113.7', '203.0.113.7'],
    ['For="203.0.113.7:4711";proto=http;by=10.0.0.1', '203.0.113.7'],
    ['for="[2001:db8::1]:4711"', '2001:db8::1'],
    ['for="[2001:DB8:0::1]:_port"', '2001:db8::1'],
    ['for="[::ffff:203.0.113.7]"', '203.0.113.7'],
    ['for="\\2\\03.0.113\\.7"', '203.0.113.7'],
    ['for=198.51.100.1, for=203.0.113.7;proto=https, for=10.1.1.1', '203.0.113.7'],
    ['for=198.51.100.1,for=203.0.113.7 , by="a, for=198.51.100.1";for="[2001:db8:aaaa::9]"', '203.0.113.7'],
    ['for=198.51.100.1;host="x, for=203.0.113.9", for=10.1.1.1', '198.51.100.1'],
    // What tells no address ends the walk at the last good hop
    ['for=unknown', '10.0.0.1'],
    ['for=203.0.113.7, for=_hidden, for=10.1.1.1', '10.1.1.1'],
    ['for=203.0.113.7, for="_hidden:4711", for=10.1.1.1', '10.1.1.1'],
    ['for=203.0.113.7, proto=https, for=10.1.1.1', '10.1.1.1'],
    ['for=203.0.113.7, , for=10.1.1.1', '10.1.1.1'],
    ['for=203.0.113.7;', '203.0.113.7'],
    ['for=203.0.113.7;for=203.0.113.7', '10.0.0.1'],
    ['for=203.0.113.7;proto', '10.0.0.1'],
    ['for=203.0.113.7:4711', '10.0.0.1'], // the colon wants quotes
    ['for=2001:db8::1', '10.0.0.1'],
    ['for="2001:db8::1"', '10.0.0.1'], // and IPv6 wants brackets
    ['for="[203.0.113.7]"', '10.0.0.1'],
    ['for="[fe80::1%eth0]"', '10.0.0.1'],
    ['for = 203.0.113.7', '10.0.0.1'],
    ['for="203.0.113.7', '10.0.0.1'],
    ['203.0.113.7', '10.0.0.1'],
  ];
  for (const [forwarded, caller] of hops) assert.equal(forwardedAddress('10.0.0.1', forwarded, isProxy, 'forwarded'), caller, forwarded);
});

test('what a caller writes to the left of Forwarded, closed quotes or not, changes nothing', () => {
  const written = fc.oneof(fc.string(), fc.string({ unit: fc.constantFrom(...'for="\\,; 1') }));
  fc.assert(
    fc.property(written, fc.constantFrom(', ', ','), (text, comma) => {
      const field = [text, 'for="203.0.113.7:80";proto=http', 'by=_x;for=10.1.1.1;proto=https'].join(comma);
      assert.equal(forwardedAddress('10.0.0.1', field, isProxy, 'forwarded'), '203.0.113.7');
      assert.ok(forwardings.forwarded.isHttps({ forwarded: field }));
    }),
  );
});

test('https is what the nearest proxy says, and exactly that', () => {
  for (const [header, right, wrong] of [
    ['x-forwarded-proto', ['https'], ['', 'http', 'HTTPS', 'https,http', 'https, https', 'https ', 'https2']],
    [
      'forwarded',
      ['proto=https', 'for=_a;PROTO="https"', 'proto=http, for=_x;proto=https'],
      [
        '',
        'proto=http',
        'proto=https, for=_a',
        'proto=https, proto=http',
        'proto=https,',
        'proto=https;proto=https',
        'proto=HTTPS',
        'proto=https2',
        'proto="https,http"',
        'x="proto=https',
      ],
    ],
  ] as const) {
    const { isHttps } = forwardings[header === 'forwarded' ? header : 'x-forwarded-for'];
    for (const field of right) assert.ok(isHttps({ [header]: field }), field);
    for (const field of wrong) assert.ok(!isHttps({ [header]: field }), field);
    assert.ok(!isHttps({}));
  }
  assert.ok(!forwardings.forwarded.isHttps({ 'x-forwarded-proto': 'https' }));
  assert.ok(!forwardings['x-forwarded-for'].isHttps({ forwarded: 'proto=https' }));
});
