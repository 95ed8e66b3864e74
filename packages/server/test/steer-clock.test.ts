import assert from 'node:assert/strict';
import { test } from 'node:test';
import { manualClock } from '@portcullis/guard';
import { clockOfStore } from '../src/steer-clock.ts';

const MINUTE = 60_000;
const DAY = 86_400_000;

/** A process that has looked once, its machine's clock `offBy` from the database's. */
async function started(offBy = 0) {
  const [own, watch] = [manualClock(10 * DAY + offBy), manualClock(0)];
  const said: string[] = [];
  const log = (level: string) => (_: object, text: string) => void said.push(`${level}: ${text}`);
  const { clock, look } = clockOfStore(own, { warn: log('warn'), error: log('error') }, watch.now);
  let leap = 0;
  const database = (): number => 10 * DAY + watch.now() + leap;
  await look(async () => database());
  return {
    clock,
    own,
    said,
    database,
    leapTo: (ms: number) => void (leap = ms),
    /** So much later, with a look every ten seconds. @param tookMs how long each answer takes. */
    async wait(ms: number, tookMs = 0) {
      for (let waited = 0; waited < ms; waited += 10_000) {
        for (const one of [own, watch]) one.advance(10_000 - tookMs);
        await look(async () => {
          for (const one of [own, watch]) one.advance(tookMs / 2);
          const at = database();
          for (const one of [own, watch]) one.advance(tookMs / 2);
          return at;
        });
      }
    },
  };
}

test("it is the database's time, however wrong this machine's is", async () => {
  for (const offBy of [-DAY, -30_000, 0, 30_000, DAY]) {
    const { clock, database, wait, said, own } = await started(offBy);
    assert.equal(clock.now(), database());
    assert.equal(said.filter((line) => line.includes('are apart')).length, offBy === 0 ? 0 : 1);
    own.advance(3_600_000); // somebody sets this machine's clock, while it runs
    await wait(MINUTE, 200);
    assert.equal(clock.now(), database());
  }
});

test('a database whose clock is far ahead for a moment moves nothing', async () => {
  const { clock, database, leapTo, wait, said } = await started();
  leapTo(DAY);
  await wait(50_000);
  assert.equal(clock.now(), database() - DAY);
  leapTo(0);
  await wait(10_000);
  assert.equal(clock.now(), database());
  leapTo(DAY); // another time: the first is forgotten
  await wait(50_000);
  assert.equal(clock.now(), database() - DAY);
  assert.equal(said.filter((line) => line.startsWith('error: ') && line.includes('leapt ahead')).length, 2);
});

test('a leap is followed when it stays for a minute, when it is small, and when this machine has leapt too', async () => {
  const lasting = await started();
  lasting.leapTo(DAY);
  await lasting.wait(70_000);
  assert.equal(lasting.clock.now(), lasting.database());
  const small = await started();
  small.leapTo(50_000);
  await small.wait(10_000);
  assert.equal(small.clock.now(), small.database());
  const slept = await started();
  slept.leapTo(DAY);
  slept.own.advance(DAY);
  await slept.wait(10_000);
  assert.equal(slept.clock.now(), slept.database());
});

test('set right after it was followed, time goes on, slower, until they are together: tokens end and windows pass meanwhile', async () => {
  const { clock, database, leapTo, wait, said } = await started();
  leapTo(600_000);
  await wait(70_000);
  leapTo(0);
  await wait(10_000);
  const from = clock.now();
  await wait(15 * MINUTE);
  const passed = clock.now() - from;
  assert.ok(Math.abs(passed - 13.5 * MINUTE) < 1_000, String(passed));
  await wait(90 * MINUTE);
  assert.equal(clock.now(), database());
  assert.equal(said.filter((line) => line.includes('goes a tenth slower')).length, 1);
});

test('an answer that was long on its way says nothing of the time', async () => {
  const { clock, database, leapTo, wait } = await started();
  leapTo(30_000);
  await wait(20_000, 2_000);
  assert.equal(clock.now(), database() - 30_000);
});
