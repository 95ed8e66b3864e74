import assert from 'node:assert/strict';
import { userInfo } from 'node:os';
import { test } from 'node:test';
import { parsePostgresUrl } from '../src/lib/postgres-url.ts';

test('a URL says where, who and how', () => {
  const { tls, ...rest } = parsePostgresUrl('postgresql://me:p%40ss@db.example:6543/my%20data?application_name=x&options=-c%20a%3Db');
  assert.deepEqual(rest, {
    host: 'db.example',
    port: 6543,
    user: 'me',
    password: 'p@ss',
    database: 'my data',
    applicationName: 'x',
    options: '-c a=b',
  });
  assert.deepEqual(tls, { caFile: undefined, certFile: undefined, keyFile: undefined });
  assert.equal(parsePostgresUrl('postgres://me@[::1]/x').host, '::1');
});

test('what leaves this machine is under TLS unless the URL says otherwise in so many words', () => {
  const isUnderTls = (place: string, words = '') => parsePostgresUrl(`postgres://me@${place}/x${words}`).tls !== undefined;
  for (const place of ['db', '10.0.0.1', '[fd00::1]', '0.0.0.0', 'localhost.example', '127.0.0.1.example']) {
    assert.equal(isUnderTls(place), true, place);
    assert.equal(isUnderTls(place, '?sslmode=verify-full'), true, place);
    assert.equal(isUnderTls(place, '?sslmode=disable'), false, place);
    assert.equal(isUnderTls('localhost', `?host=${place.replace(/[[\]]/g, '')}`), true, `${place}, which counts more`);
  }
  for (const place of ['localhost', '127.0.0.1', '127.1.2.3', '[::1]']) {
    assert.equal(isUnderTls(place), false, place);
    assert.equal(isUnderTls(place, '?sslmode=verify-full'), true, place);
    assert.equal(isUnderTls(place, '?sslrootcert=system'), true, place);
  }
  assert.deepEqual(parsePostgresUrl('postgres://me@db/x?sslrootcert=ca.pem&sslcert=c.pem&sslkey=k.pem').tls, {
    caFile: 'ca.pem',
    certFile: 'c.pem',
    keyFile: 'k.pem',
  });
});

test('a socket is a folder, in the place of the host or as a word; its user is whoever runs this, unless it is said', () => {
  const found = [
    'postgres:///x?host=/run/pg',
    'postgres://me@/x?host=/run/pg&port=6000',
    'postgres://me@%2Frun%2Fpg/x',
    'postgres://me:s%25@/x?host=/run/pg&sslmode=disable',
  ].map(parsePostgresUrl);
  for (const { host, tls } of found) assert.deepEqual([host, tls], ['/run/pg', undefined]);
  assert.deepEqual(
    found.map(({ user, port, password }) => [user, port, password]),
    [
      [userInfo().username, 5432, undefined],
      ['me', 6000, undefined],
      ['me', 5432, undefined],
      ['me', 5432, 's%'],
    ],
  );
});

test('what is not understood, or would be half a protection, is refused with what to write, and without a password', () => {
  const refusals: [url: string, says: RegExp][] = [
    ['postgres://me:SECRET@db/x?sslmode=require', /take anybody for the database: write sslmode=verify-full/],
    ['postgres://me:SECRET@db/x?sslmode=verify-ca', /write sslmode=verify-full/],
    ['postgres://me:SECRET@db/x?sslmode=prefer', /write sslmode=verify-full/],
    ['postgres://me:SECRET@db/x?sslmode=toString', /^sslmode is "verify-full" or "disable"/],
    ['postgres://me:SECRET@db/x?sslmod=verify-full', /did you mean sslmode/],
    ['postgres://me@db/x?uselibpqcompat=true', /not understood: there are host/],
    ['postgres://me@db/x?statement_timeout=0', /not understood/],
    ['postgres://me@db/x?password=SECRET', /PORTCULLIS_DATABASE_PASSWORD_FILE/],
    ['postgres://me@db/x?sslmode=disable&sslmode=verify-full', /sslmode stands twice/],
    ['postgres://me@db/x?sslmode=disable&sslrootcert=ca.pem', /no use for a certificate/],
    ['postgres://me@db/x?sslcert=c.pem', /together or not at all/],
    ['postgres://me@db/x?sslmode=', /sslmode is empty/],
    ['postgres:///x?host=/run&sslmode=verify-full', /no TLS on a socket/],
    ['postgres://me:SECRET@a,b/x', /one host/],
    ['postgres://me:SECRET@db:99999/x', /is "postgres:/],
    ['postgres://me@db/x?port=0', /from 1 to 65535/],
    ['postgres://me:SECRET%@db/x', /written %25/],
    ['postgres://me:SECRET/x@db/x', /names a user, one host|is "postgres:/],
    ['postgres://db/x', /names a user/],
    ['postgres://me@/x', /one host/],
    ['postgres:///x', /one host/],
    ['postgres://me@db/', /a database/],
    ['postgres://me@db/x#y', /is "postgres:/],
  ];
  for (const [url, says] of refusals) {
    assert.throws(
      () => parsePostgresUrl(url),
      (error: Error) => {
        assert.match(error.message, says, url);
        assert.doesNotMatch(error.message, /SECRET/);
        return true;
      },
      url,
    );
  }
});
