import assert from 'node:assert/strict';
import { test } from 'node:test';
import { isInClear, readRedisUrl, showRedisUrl } from '../src/lib/redis-url.ts';

const one = { kind: 'one', isTls: false, database: 0 };

test('each way to a Redis has its URL', () => {
  for (const [text, meant] of [
    ['redis://r', { ...one, address: { host: 'r', port: 6379 } }],
    ['redis://r:6380/', { ...one, address: { host: 'r', port: 6380 } }],
    ['rediss://me:p%40ss@r/2', { ...one, isTls: true, username: 'me', password: 'p@ss', database: 2, address: { host: 'r', port: 6379 } }],
    ['redis://:p@ss:word@[2001:db8::1]:7', { ...one, password: 'p@ss:word', address: { host: '2001:db8::1', port: 7 } }],
    ['redis://me@127.0.0.1', { ...one, username: 'me', address: { host: '127.0.0.1', port: 6379 } }],
    ['unix:///run/redis/redis.sock', { ...one, address: { path: '/run/redis/redis.sock' } }],
    ['redis+unix://me:p@/a%20b.sock?db=3', { ...one, username: 'me', password: 'p', database: 3, address: { path: '/a b.sock' } }],
    [
      'redis+sentinel://:p@one:1,two/mymaster/4',
      {
        kind: 'sentinel',
        isTls: false,
        password: 'p',
        master: 'mymaster',
        database: 4,
        sentinels: [
          { host: 'one', port: 1 },
          { host: 'two', port: 26379 },
        ],
      },
    ],
    [
      'rediss+cluster://me:p@one:1,[::1]:2/',
      {
        kind: 'cluster',
        isTls: true,
        username: 'me',
        password: 'p',
        seeds: [
          { host: 'one', port: 1 },
          { host: '::1', port: 2 },
        ],
      },
    ],
  ] as const)
    assert.deepEqual({ ...readRedisUrl(text) }, meant, text);
});

test('what is none is refused with the right form, and quotes nothing', () => {
  for (const [text, says] of [
    ['redis://', /redis:\/\/HOST/],
    ['http://secret', /redis:\/\/HOST/],
    ['r:6379', /redis:\/\/HOST/],
    ['redis://secret/x', /redis:\/\/HOST/],
    ['redis://secret/1/2', /redis:\/\/HOST/],
    ['redis://secret:0', /redis:\/\/HOST/],
    ['redis://secret:70000', /redis:\/\/HOST/],
    ['redis://a,secret', /redis:\/\/HOST/],
    ['redis://secret%zz@r', /redis:\/\/HOST/],
    ['redis://sec ret', /redis:\/\/HOST/],
    ['redis://r?password=secret', /behind "\?"/],
    ['redis+socket://secret', /redis:\/\/HOST/],
    ['rediss+unix:///secret', /redis:\/\/HOST/],
    ['unix://secret', /unix:\/\/\/PATH/],
    ['unix:///', /unix:\/\/\/PATH/],
    ['unix:///r?password=secret', /unix:\/\/\/PATH/],
    ['redis+sentinel://secret:1', /name of the master/],
    ['redis+sentinel://secret:1/', /name of the master/],
    ['redis+sentinel://secret:1/m/0/x', /name of the master/],
    ['redis+cluster://secret:1/2', /one database/],
  ] as const)
    assert.throws(
      () => readRedisUrl(text),
      ({ message }: Error) => says.test(message) && !message.includes('secret'),
      text,
    );
});

test('it is shown without its password', () => {
  for (const [text, shown] of [
    ['redis://r', 'redis://r'],
    ['rediss://me:p@ss@r:1/2', 'rediss://me@r:1/2'],
    ['redis://:p@r', 'redis://r'],
    ['unix://me:p@/s?db=1', 'unix://me@/s?db=1'],
    ['redis+sentinel://:p@a,b/m', 'redis+sentinel://a,b/m'],
    ['redis+cluster://me:p@a,b', 'redis+cluster://me@a,b'],
  ] as const) {
    assert.equal(showRedisUrl(text), shown);
    readRedisUrl(shown);
  }
});

test('what goes over a network without TLS is in clear; what stays on this machine is not', () => {
  for (const url of ['redis://redis:6379', 'redis+sentinel://10.0.0.1:26379/m', 'redis+cluster://127.0.0.1:1,[2001:db8::1]:2'])
    assert.equal(isInClear(url), true, url);
  for (const url of ['rediss://redis:6379', 'redis://localhost', 'redis://[::1]:1', 'unix:///run/redis.sock', 'rediss+cluster://a:1,b:2'])
    assert.equal(isInClear(url), false, url);
});
