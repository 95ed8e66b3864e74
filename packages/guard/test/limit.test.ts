import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { parseLimits, rulesFor } from '../src/limit.ts';

const texts = (text: string | readonly string[]) => parseLimits(text).map((limit) => limit.text);
const namesAt = (path: string, text: string) => rulesFor({ method: 'POST', path }, parseLimits(text)).map(({ name }) => name);

test('a limit reads as it is said', () => {
  assert.deepEqual(parseLimits("3 per 10 minutes by username shared 'guesses'"), [
    { text: "3 per 10 minutes by username shared 'guesses'", max: 3, windowMs: 600_000, by: 'username', shared: 'guesses' },
  ]);
  assert.deepEqual(parseLimits('5/minute'), [{ text: '5 per minute by ip', max: 5, windowMs: 60_000, by: 'ip', shared: undefined }]);
});

test('one spelling for all that mean the same', () => {
  for (const text of ['5 per minute', '5/minute', ' 5 / 1 minutes ', '5 PER Minute BY ip', '5 per 60 seconds', '05 per\tminute\nby  ip']) {
    assert.deepEqual(texts(text), ['5 per minute by ip'], text);
  }
  assert.deepEqual(texts('5 per month'), ['5 per 30 days by ip']);
  assert.deepEqual(texts('5 per 90 minutes'), ['5 per 90 minutes by ip']);
  assert.deepEqual(texts('5 per 24 hours by caller'), ['5 per day by caller']);
  assert.deepEqual(texts('5/10 seconds'), ['5 per 10 seconds by ip']);
});

test('several limits stand between ; , or | and in lists, each with its own "by"', () => {
  assert.deepEqual(texts('100 per hour; 10 per second by caller'), ['100 per hour by ip', '10 per second by caller']);
  assert.deepEqual(texts('1/day,2/hour|3/minute'), ['1 per day by ip', '2 per hour by ip', '3 per minute by ip']);
  assert.deepEqual(texts(['1/day; 2/hour', '', '3/minute']), ['1 per day by ip', '2 per hour by ip', '3 per minute by ip']);
});

test('no text is no limits', () => {
  for (const text of ['', '  ', [], ['', ' ']]) assert.deepEqual(parseLimits(text), []);
});

test('what is wrong is named, and the right form shown', () => {
  const mistakes: [text: string, named: RegExp][] = [
    ['many per minute', /"many" is not a number/],
    ['-5 per minute', /"-5" is not a number/],
    ['1e3 per minute', /"1e3" is not a number/],
    ['٣ per minute', /"٣" is not a number/],
    ['0 per minute', /0 is not between 1 and 1000000000/],
    ['1000000001 per minute', /1000000001 is not between/],
    ['99999999999999999999 per minute', /99999999999999999999 is not between/],
    ['5', /"per" and a time are missing after 5/],
    ['5 a minute', /it says "a"/],
    ['5 per', /the unit of time is missing/],
    ['5 per 10', /the unit of time is missing/],
    ['5 per fortnight', /"fortnight" is not a unit/],
    ['5 per s', /"s" is not a unit/],
    ['5 per minutess', /"minutess" is not a unit/],
    ['5 per __proto__', /"__proto__" is not a unit/],
    ['5 per 0 minutes', /"0 minutes" is not between 1 second and 31 days/],
    ['5 per 32 days', /"32 days" is not between/],
    ['5 per year', /"1 year" is not between/],
    ['5 per minute by user', /"by user" is none of "by ip", "by caller", "by username"/],
    ['5 per minute by', /"by " is none of/],
    ['5 per minute ip', /"ip" is not understood/],
    ["5 per minute shared 'x' by ip", /"by ip" is not understood/],
    ['5 per minute shared search', /"shared search" needs a name in single quotes/],
    ["5 per minute shared 'two words'", /"shared 'two" needs a name/],
    [`5 per minute shared '${'x'.repeat(41)}'`, /needs a name/],
    ['5 per minute;', /"" cannot be read: a limit is missing here/],
    ['5 per minute;; 3 per hour', /a limit is missing here/],
  ];
  for (const [text, named] of mistakes) {
    assert.throws(
      () => parseLimits(text),
      (error: Error) => named.test(error.message) && error.message.includes('"3 per minute by ip"'),
      text,
    );
  }
  assert.throws(() => parseLimits(['5 per minute', 'oops']), /"oops"/);
});

test('the bounds themselves are allowed', () => {
  assert.deepEqual(texts('1 per second; 1000000000 per 31 days'), ['1 per second by ip', '1000000000 per 31 days by ip']);
});

test('the canonical text of any limit parses to the same limit', () => {
  const anyLimit = fc.tuple(
    fc.integer({ min: 1, max: 1e9 }),
    fc.integer({ min: 1, max: 31 }),
    fc.constantFrom('second', 'minutes', 'hour', 'days'),
    fc.constantFrom('', ' by ip', ' by caller', ' by username'),
    fc.constantFrom('', " shared 'a'", " shared '0-b-9'"),
  );
  fc.assert(
    fc.property(anyLimit, ([max, times, unit, by, shared]) => {
      const [limit] = parseLimits(`${max} per ${times} ${unit}${by}${shared}`);
      assert.ok(limit);
      assert.deepEqual(parseLimits(limit.text), [limit]);
    }),
  );
});

test('any text gives limits or an Error, also a long one at once', () => {
  const word = fc.constantFrom('5', 'per', '/', 'minute', 's', 'by', 'ip', 'shared', "'", "'x'", ';', ' ', '  ', '-', 'é');
  fc.assert(
    fc.property(
      fc.oneof(
        fc.string(),
        fc.array(word).map((words) => words.join('')),
      ),
      (text) => {
        try {
          for (const { max, windowMs } of parseLimits(text))
            assert.ok(max >= 1 && max <= 1e9 && windowMs >= 1_000 && windowMs <= 31 * 86_400_000);
        } catch (error) {
          assert.match((error as Error).message, /cannot be read/); // thrown above, so an Error
        }
      },
    ),
  );
  for (const piece of [' ', '5', '/', "'", '-', '5 per ', "5/minute shared '", '5/minute '])
    assert.throws(() => parseLimits(`x${piece.repeat(100_000)}x`));
});

test('a route counts for itself, HEAD with GET, a shared limit for all', () => {
  const limits = parseLimits("5 per minute; 100 per hour by caller shared 'all'");
  const get = rulesFor({ method: 'GET', path: '/notes' }, limits);
  assert.deepEqual(
    get.map(({ id }) => id),
    ['GET /notes 5 per minute by ip', "100 per hour by caller shared 'all'"],
  );
  assert.deepEqual(
    get.map(({ limit }) => limit),
    limits,
  );
  assert.deepEqual(rulesFor({ method: 'HEAD', path: '/notes' }, limits), get);
  const post = rulesFor({ method: 'POST', path: '/notes' }, limits);
  assert.notEqual(post[0]?.id, get[0]?.id);
  assert.equal(post[1]?.id, get[1]?.id);
});

test('a policy is named after its path or what it shares', () => {
  const first = (path: string) => namesAt(path, '1/day')[0];
  assert.equal(first('/login'), 'login');
  assert.equal(first('/'), 'root');
  assert.equal(first('/*'), 'root');
  assert.equal(first('/notes/:id'), 'notes-id');
  assert.equal(first('/API/v1//Notes_of-day/'), 'api-v1-notes-of-day');
  assert.deepEqual(namesAt('/login', "1/day shared 'gate'"), ['gate']);
});

test('the policies of one route have different names, that tell what differs', () => {
  assert.deepEqual(namesAt('/login', '3/minute; 9/hour by username'), ['login', 'login-by-username']);
  assert.deepEqual(namesAt('/login', '3/minute; 9/hour; 20/day; 50/month'), ['login', 'login-by-ip', 'login-2', 'login-3']);
  assert.deepEqual(namesAt('/login', "3/minute; 9/hour shared 'login'; 9/day by caller shared 'login'"), [
    'login',
    'login-by-ip',
    'login-by-caller',
  ]);
});

test('the same limit twice on one route is a mistake', () => {
  assert.throws(
    () => namesAt('/login', '60 per minute; 60 per 60 seconds by ip'),
    /POST \/login has the limit "60 per minute by ip" twice/,
  );
  assert.throws(() => namesAt('/login', "1/day shared 'x', 1/day shared 'x'"), /twice/);
  assert.equal(namesAt('/login', "1/day, 1/day shared 'x', 1/day by caller").length, 3);
});
