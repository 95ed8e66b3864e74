import { createHash } from 'node:crypto';
import type { Charge, Counters, Standing, Verdict } from './counters.ts';

/** What is asked of Redis, whoever speaks to it: an atomic script, by its text. Rejects within the caller's own deadline. */
export type RunScript = (script: string, keys: readonly string[], args: readonly string[]) => Promise<unknown>;

/** What Redis says of a caller's request in one trip. */
export type Answer = {
  readonly verdict: Verdict;
  readonly revoked: boolean;
  /** `name.version`; where it is not what was claimed, this part of Redis has forgotten, and `revoked: false` proves nothing. */
  readonly generation: string | undefined;
  /** Which part it was. */
  readonly part: number;
};

/** Counters and revocations that all instances share. */
export interface RedisLedger extends Counters {
  /**
   * Whether the session is revoked, and the request counted: on all charges if it is not, on `always` alone if it is. All or
   * nothing: what one charge refuses counts on none.
   */
  takeFor(sessionId: string, always: readonly Charge[], ifLiving: readonly Charge[]): Promise<Answer>;
  /** Notes that the session is revoked, for so long. */
  revoke(sessionId: string, forMs: number): Promise<void>;
  /**
   * Gives each part of Redis that has none a generation of this name, and each a version no lower than this one.
   * @returns what now stands, part by part: what {@link Answer.generation} will say until that part forgets, or its version is raised.
   */
  claim(name: string, version: number): Promise<readonly string[]>;
}

/**
 * Counters with the meaning of `sliding-list.ts`, as a script that Redis runs whole. The time is Redis's own, so the
 * instances' clocks do not matter. A counter goes by itself when its last entry has left, a revocation when nothing is left
 * to be refused.
 * @param on.prefix of every key, so that two services can share one Redis.
 * @param on.now epoch milliseconds in place of Redis's time: for tests.
 */
export function redisLedger(on: { run: RunScript; prefix: string; now?: () => number }): RedisLedger {
  async function ask(mode: 'peek' | 'take', asked: readonly Charge[]): Promise<Verdict> {
    const charges = distinct(asked);
    if (charges.length === 0) return { allowed: true, tightest: undefined };
    return verdictOf(charges, listOf(await on.run(COUNT, charges.map(keyOf), [mode, nowOf(), '', ...limitsOf(charges)])));
  }

  const nowOf = (): string => (on.now ? String(on.now()) : '');
  /** Bounded, and without anybody's name in it; those of one address, user or name are together in a cluster, by the tag in braces. */
  const keyOf = ({ rule, who }: Charge): string => `${on.prefix}:limit:{${hash(who)}}:${hash(rule.id)}`;
  const revokedKey = (sessionId: string): string => `${on.prefix}:revoked:{r${partOf(sessionId)}}:${sessionId}`;
  const generationKey = (part: number): string => `${on.prefix}:generation:{r${part}}`;

  return {
    peek: (charges) => ask('peek', charges),
    take: (charges) => ask('take', charges),

    async takeFor(sessionId, always, ifLiving) {
      const first = distinct(always);
      const charges = distinct([...first, ...ifLiving]);
      const keys = [generationKey(partOf(sessionId)), revokedKey(sessionId), ...charges.map(keyOf)];
      const answer = listOf(await on.run(COUNT, keys, ['take', nowOf(), String(first.length), ...limitsOf(charges)]));
      const [generation, revoked] = answer.slice(-2);
      return {
        verdict: verdictOf(charges, answer),
        revoked: revoked === 1,
        generation: typeof generation === 'string' && generation !== '' ? generation : undefined,
        part: partOf(sessionId),
      };
    },

    async revoke(sessionId, forMs) {
      if (forMs > 0) await on.run(REVOKE, [revokedKey(sessionId)], [String(Math.ceil(forMs))]);
    },

    claim: (name, version) =>
      Promise.all(parts.map(async (part) => String(await on.run(CLAIM, [generationKey(part)], [name, String(version)])))),
  };
}

/** In a cluster each part forgets for itself, so each has a generation beside its revocations. */
const parts = Array.from({ length: 64 }, (_, part) => part);

const partOf = (sessionId: string): number => createHash('sha256').update(sessionId).digest().readUInt8() % parts.length;

const limitsOf = (charges: readonly Charge[]): string[] =>
  charges.flatMap(({ rule: { limit } }) => [String(limit.max), String(limit.windowMs)]);

const listOf = (answer: unknown): readonly unknown[] => {
  if (Array.isArray(answer)) return answer;
  throw new Error('Redis answered something else than a list');
};

const hash = (text: string): string => createHash('sha256').update(text).digest('base64url').slice(0, 22);

const distinct = (charges: readonly Charge[]): Charge[] =>
  charges.filter(({ rule, who }, i) => charges.findIndex((other) => other.rule.id === rule.id && other.who === who) === i);

/** The script says: admitted or not, of which charge it speaks, what remains there, and how long until more does. */
function verdictOf(charges: readonly Charge[], answer: readonly unknown[]): Verdict {
  const [allowed, which, remaining, resetMs] = answer.map(Number);
  if (allowed === 1 && which === 0) return { allowed: true, tightest: undefined };
  const charge = charges[(which ?? 0) - 1];
  if (!charge || remaining === undefined || resetMs === undefined) throw new Error('Redis answered something else than a verdict');
  const standing: Standing = { rule: charge.rule, remaining, resetMs };
  return allowed === 1 ? { allowed: true, tightest: standing } : { allowed: false, refusedBy: standing };
}

/** `sliding-list.ts` and the verdict of `memory-counters.ts`, line by line; the same numbers, for Lua's are doubles too. */
const COUNT = `
local now = tonumber(ARGV[2])
if not now then
  local time = redis.call('TIME')
  now = time[1] * 1000 + math.floor(time[2] / 1000)
end

-- With a session, the first two keys are its generation and its revocation, and a revoked one pays only the first charges.
local always = tonumber(ARGV[3])
local before, generation, revoked = 0, '', 0
local charges = #KEYS
if always then
  before = 2
  generation = redis.call('GET', KEYS[1]) or ''
  revoked = redis.call('EXISTS', KEYS[2])
  charges = revoked == 1 and always or #KEYS - 2
end

local lists = {}
local refusedBy, longest
for i = 1, charges do
  local max, window = tonumber(ARGV[2 * i + 2]), tonumber(ARGV[2 * i + 3])
  local kept = redis.call('GET', KEYS[before + i])
  local old = kept and cmsgpack.unpack(kept) or {}
  local entries, total = {}, 0
  for j = 1, #old, 2 do
    if old[j] + window > now then
      entries[#entries + 1] = old[j]
      entries[#entries + 1] = old[j + 1]
      total = total + old[j + 1]
    end
  end
  lists[i] = { entries = entries, total = total, max = max, window = window }
  if total >= max then
    local wait = entries[1] + window - now
    if not longest or wait > longest then refusedBy, longest = i, wait end
  end
end
if refusedBy then return { 0, refusedBy, 0, longest, generation, revoked } end

if ARGV[1] == 'take' then
  for i, list in ipairs(lists) do
    local at = now
    if list.max > 32 then
      local slot = math.floor(now * 32 / list.window)
      at = math.ceil((slot + 1) * list.window / 32)
    end
    local entries = list.entries
    list.total = list.total + 1
    if #entries > 0 and at <= entries[#entries - 1] then
      entries[#entries] = entries[#entries] + 1
    else
      entries[#entries + 1] = at
      entries[#entries + 1] = 1
    end
    redis.call('SET', KEYS[before + i], cmsgpack.pack(entries), 'PX', math.max(1, entries[#entries - 1] + list.window - now))
  end
end

local tightest, mostUsed = 1, -1
for i, list in ipairs(lists) do
  local used = list.total / list.max
  if used > mostUsed then tightest, mostUsed = i, used end
end
local list = lists[tightest]
if not list then return { 1, 0, 0, 0, generation, revoked } end
local reset = #list.entries > 0 and list.entries[1] + list.window - now or 0
return { 1, tightest, list.max - list.total, reset, generation, revoked }
`;

const REVOKE = `return redis.call('SET', KEYS[1], '1', 'PX', ARGV[1])`;
const CLAIM = `
local name, version = string.match(redis.call('GET', KEYS[1]) or '', '^(.*)%.(%d+)$')
if not name then name, version = ARGV[1], '-1' end
if tonumber(version) < tonumber(ARGV[2]) then
  version = ARGV[2]
  redis.call('SET', KEYS[1], name .. '.' .. version)
end
return name .. '.' .. version
`;
