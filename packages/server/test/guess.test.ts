import assert from 'node:assert/strict';
import { suite, test } from 'node:test';
import { manualClock } from '@portcullis/guard';
import fc from 'fast-check';
import { type Budget, deviceBudget, judge, strangersBudget } from '../src/domain/guess/guess.ts';
import { guessPlaces } from '../src/domain/guess/guess-places.ts';
import { sprayWatch } from '../src/domain/guess/spraying.ts';
import { deviceTokens } from '../src/domain/token/device-token.ts';
import { checkUsername, usernameKey } from '../src/domain/user/user.ts';

const MINUTE_MS = 60_000;
const DAY_MS = 86_400_000;
const START = Date.UTC(2026, 0, 1);

suite('a budget', () => {
  test('strangers: five, then 1, 2, 4, 8 and each further 15 minutes, and a hundred in all', () => {
    const waits: number[] = [];
    let times: readonly number[] = [];
    let now = START;
    for (let i = 0; i < 100 + 96; i += 1) {
      const judged = judge(times, strangersBudget, now);
      if ('retryAt' in judged) {
        waits.push((judged.retryAt - now) / MINUTE_MS);
        now = judged.retryAt;
      } else times = judged.times;
    }
    assert.deepEqual(waits, [1, 2, 4, 8, ...Array<number>(91).fill(15), 60], 'the hundredth comes after 23 hours');
  });

  for (const [name, budget] of Object.entries({ strangersBudget, deviceBudget })) {
    test(`${name}: whatever the sequence, never more than ${budget.most} in any window, and Retry-After is true`, () => {
      // A step is a pause and a burst; some of those who were let in turn out to be right, and are given back.
      const step = fc.record({
        pauseMs: fc.oneof(fc.nat(10_000), fc.nat(20 * MINUTE_MS), fc.nat(2 * budget.windowMs), fc.constant(budget.windowMs)),
        burst: fc.integer({ min: 1, max: 150 }),
        right: fc.nat(4).map((chance) => chance === 0),
        asTold: fc.boolean(),
      });
      fc.assert(
        fc.property(fc.array(step, { maxLength: 60 }), (steps) => {
          let times: readonly number[] = [];
          let now = START;
          let retryAt = 0;
          const wrong: number[] = [];
          for (const { pauseMs, burst, right, asTold } of steps) {
            now = asTold && retryAt > now ? retryAt : now + pauseMs;
            for (let i = 0; i < burst; i += 1) {
              const judged = judge(times, budget, now);
              if ('retryAt' in judged) {
                retryAt = judged.retryAt;
                assert.ok(retryAt > now && retryAt <= now + budget.windowMs + 15 * MINUTE_MS);
                assert.ok('times' in judge(times, budget, retryAt), 'with nobody else trying, one is let in then');
                break;
              }
              if (right && i === 0) continue; // given back
              times = judged.times;
              wrong.push(now);
              assert.ok(times.length <= budget.most);
            }
          }
          for (const [i, at] of wrong.entries())
            assert.ok((wrong[i + budget.most] ?? Infinity) - at >= budget.windowMs, 'more than the budget in one window');
        }),
        { numRuns: 200 },
      );
    });
  }

  test('the greediest gets no more than a hundred on any day', () => {
    let times: readonly number[] = [];
    const letIn: number[] = [];
    for (let now = START, i = 0; now < START + 3 * DAY_MS && i < 1_000; i += 1) {
      const judged = judge(times, strangersBudget, now);
      if ('retryAt' in judged) {
        now = judged.retryAt;
        continue;
      }
      times = judged.times;
      letIn.push(now);
    }
    const busiest = Math.max(...letIn.map((at, i) => letIn.slice(i).filter((later) => later - at < DAY_MS).length));
    assert.ok(busiest > 95 && busiest <= 100, `${busiest}`);
  });

  test('two that read the clock at once may be judged in either order; a clock that was far ahead keeps nobody out', () => {
    assert.deepEqual(judge([START + 5], strangersBudget, START), { times: [START + 5, START + 5] });
    const ahead = Array.from({ length: 100 }, () => START + 400 * DAY_MS);
    assert.deepEqual(judge(ahead, strangersBudget, START), { times: [START] });
  });

  test('what is counted is read as it was written, and no more', () => {
    const once: Budget = { windowMs: 10, most: 1, pauseMs: () => 0 };
    assert.deepEqual(judge([START], once, START + 9), { retryAt: START + 10 });
    assert.deepEqual(judge([START], once, START + 10), { times: [START + 10] });
  });
});

suite('where attempts are counted', () => {
  const places = guessPlaces('secret');

  test('all spellings of a name are one', () => {
    const names: readonly (readonly [string, readonly string[]])[] = [
      ['alice', ['ALICE', 'Alice', ' alice', 'alice\t', '\u00a0alice\u3000', 'ａｌｉｃｅ', 'ＡＬＩＣＥ', '𝐚𝐥𝐢𝐜𝐞', '𝒜𝓁𝒾𝒸𝑒', 'ⓐⓛⓘⓒⓔ']],
      ['zoë ångström', ['ZOË ÅNGSTRÖM', 'zoe\u0308 a\u030angstro\u0308m', 'Zoë  \n Ångström', 'ｚｏë\u2003\u212bngström']],
      ['ﬁnn', ['finn', 'FINN', 'Ｆinn']],
      ['①', ['1', '１', '𝟙']],
      ['ﾊﾝｶｸ', ['ハンカク']],
      ['', [' ', '\t\n', '\u3000']],
    ];
    const keys = names.map(([name, spellings]) => {
      const { key, overflow } = places.ofStrangers(usernameKey(name));
      for (const spelling of spellings) {
        assert.equal(usernameKey(spelling), usernameKey(name), JSON.stringify(spelling));
        assert.deepEqual([places.ofStrangers(usernameKey(spelling)).key, overflow], [key, overflow]);
      }
      return key;
    });
    assert.equal(new Set(keys).size, names.length);
    fc.assert(
      fc.property(fc.string({ unit: 'grapheme', maxLength: 40 }), (name) => {
        const key = usernameKey(name);
        for (const other of [key, ` ${name}\t`, name.normalize('NFD'), name.normalize('NFKC'), name.replaceAll(' ', '\u3000 ')])
          assert.equal(usernameKey(other), key);
      }),
    );
  });

  test('no user can have a name of which only a part would be the key', () => {
    const long = `${'\ufdfa'.repeat(14)}abc`;
    for (const name of [`${long}\u{20000}`, `${long}\u{20400}`, '\ufdfa'.repeat(15), '\ufdfa'.repeat(64)])
      assert.throws(() => checkUsername(name), { code: 'username_invalid' });
    assert.ok(usernameKey(`${long}\u{20000}`).isWellFormed());
    checkUsername('\u{1f994}'.repeat(64));
  });

  test('names, devices and master secrets are apart; nothing of a name can be read', () => {
    const [name, device] = ['alice', '00112233445566778899aabbccddeeff'];
    const keys = [
      places.ofStrangers(name).key,
      places.ofDevice(name, device).key,
      places.ofDevice(name, device.replace('0', '1')).key,
      places.ofDevice(`${name}2`, device).key,
      places.ofStrangers(`${name}${device}`).key,
      places.ofStrangers('').key,
      guessPlaces('another').ofStrangers(name).key,
    ];
    assert.equal(new Set(keys).size, keys.length);
    for (const key of keys) assert.match(key, /^[\w-]{43}$/);
    assert.equal(places.ofDevice(name, device).overflow, undefined);
    const shared = new Set(Array.from({ length: 20_000 }, (_, i) => places.ofStrangers(`name ${i}`).overflow?.key));
    assert.equal(shared.size, 1_024);
  });
});

suite('device tokens', () => {
  const tokens = deviceTokens(['secret']);
  const alice = { nameKey: 'alice', passwordVersion: 3 };

  test('known again, by all spellings of the name, for 180 days; renewed, it is the same device', () => {
    const first = tokens.issue(alice, START);
    assert.match(first, /^pdt_[\w-]{72}$/);
    const id = tokens.read(first, alice, START);
    assert.match(String(id), /^[0-9a-f]{32}$/);
    assert.equal(tokens.read(first, alice, START + 180 * DAY_MS - 1), id);
    assert.equal(tokens.read(first, alice, START + 180 * DAY_MS), undefined);
    const renewed = tokens.issue(alice, START + DAY_MS, id);
    assert.notEqual(renewed, first);
    assert.equal(tokens.read(renewed, alice, START + 180 * DAY_MS), id);
    assert.notEqual(tokens.read(tokens.issue(alice, START), alice, START), id);
  });

  test("another name's, another password's, another secret's, a forged or mistyped one is nobody's", () => {
    const token = tokens.issue(alice, START);
    for (const name of ['bob', 'alice ', '', 'alic', 'alicea'])
      assert.equal(tokens.read(token, { ...alice, nameKey: name }, START), undefined, name);
    for (const passwordVersion of [0, 2, 4]) assert.equal(tokens.read(token, { ...alice, passwordVersion }, START), undefined);
    assert.equal(deviceTokens(['another']).read(token, alice, START), undefined);
    for (const wrong of [
      undefined,
      '',
      'pdt_',
      token.slice(4),
      `${token}A`,
      ` ${token}`,
      token.slice(0, -1),
      token.toUpperCase(),
      'x'.repeat(1e6),
    ])
      assert.equal(tokens.read(wrong, alice, START), undefined);
    for (let i = 4; i < token.length; i += 1) {
      const changed = `${token.slice(0, i)}${token[i] === 'A' ? 'B' : 'A'}${token.slice(i + 1)}`;
      assert.equal(tokens.read(changed, alice, START), undefined, `${i}`);
    }
  });

  test('under a new master secret, those of before are still known, and renewed under the new one', () => {
    const old = tokens.issue(alice, START);
    const both = deviceTokens(['new', 'secret']);
    const id = both.read(old, alice, START);
    assert.equal(id, tokens.read(old, alice, START));
    const renewed = both.issue(alice, START, id);
    assert.equal(deviceTokens(['new']).read(renewed, alice, START), id);
    assert.equal(tokens.read(renewed, alice, START), undefined);
  });
});

suite('password spraying', () => {
  const make = () => {
    const clock = manualClock(START);
    return { clock, watch: sprayWatch({ clock }) };
  };

  test('ten names from one block within an hour; one name, however often, is none', () => {
    const { clock, watch } = make();
    for (let i = 0; i < 100; i += 1) assert.equal(watch.failed('192.0.2.1', 'alice'), undefined);
    for (let i = 1; i < 9; i += 1) assert.equal(watch.failed('192.0.2.1', `name ${i}`), undefined);
    for (let i = 0; i < 9; i += 1) assert.equal(watch.failed('192.0.2.2', `name ${i}`), undefined);
    clock.advance(3_599_999);
    const found = watch.failed('192.0.2.1', 'tenth');
    assert.deepEqual([found?.names, found?.isNews], [10, true]);
    assert.equal(watch.failed('192.0.2.1', 'alice')?.isNews, false);
    clock.advance(1);
    assert.equal(watch.failed('192.0.2.1', 'eleventh'), undefined, 'eight of them are an hour ago');
  });

  test('while it lasts, it is news once an hour and has one sum an hour; names are told apart up to a bound', () => {
    const { clock, watch } = make();
    const found = Array.from({ length: 5 * 360 }, (_, i) => {
      clock.advance(10_000);
      return watch.failed('192.0.2.1', `name ${i}`);
    });
    assert.equal(found.filter((one) => one?.isNews).length, 5);
    assert.equal(new Set(found.map((one) => one?.sumId)).size, 1 + 6, 'none, then one for each hour of the clock');
    assert.equal(found.at(-1)?.names, 64);
    for (let i = 0; i < 10; i += 1) watch.failed('192.0.2.2', `name ${i}`);
    assert.notEqual(watch.failed('192.0.2.2', 'name')?.sumId, found.at(-1)?.sumId);
  });
});
