/**
 * `sliding-list.ts` and the verdict of `memory-counters.ts`, line by line; the same numbers, for Lua's are doubles too. Many
 * questions at once, each answered before the next is looked at.
 *
 * KEYS, for each question: with a session its generation and its revocation, and with a mark where that of its last token is;
 * then a counter for each charge. ARGV: epoch milliseconds, or '' for Redis's own; then for each row of questions that are alike
 * how many they are; `peek`, `take`, or `lend` for a take that may be taken back; with a session how many charges it pays once it
 * is revoked, else ''; `marked` where there are marks, else ''; how many charges there are; for each its limit's max and window;
 * and with marks, for each question, how that of its session's last token must begin.
 *
 * Answers, for each question: 1 or 0 for admitted or not, 2 for another mark, and nothing is counted; of which charge it speaks,
 * from 1, 0 without any; what remains there; how long until more does; the generation; 1 for revoked; then with a mark the rest of
 * it, or what was lent, for each charge under which time.
 */
export const COUNT = `
local now = tonumber(ARGV[1])
if not now then
  local time = redis.call('TIME')
  now = time[1] * 1000 + math.floor(time[2] / 1000)
end
local key, arg = 1, 2

-- KEYS[key] is the first counter; of a revoked session's charges only the first are paid.
local function count(mode, limits, charges, generation, revoked)
  local lists = {}
  local refusedBy, longest
  for i = 1, charges do
    local max, window = limits[2 * i - 1], limits[2 * i]
    local kept = redis.call('GET', KEYS[key + i - 1])
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

  local answer = { 1, 0, 0, 0, generation, revoked }
  if mode ~= 'peek' then
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
      redis.call('SET', KEYS[key + i - 1], cmsgpack.pack(entries), 'PX', math.max(1, entries[#entries - 1] + list.window - now))
      if mode == 'lend' then answer[#answer + 1] = entries[#entries - 1] end
    end
  end

  local tightest, mostUsed = 1, -1
  for i, list in ipairs(lists) do
    local used = list.total / list.max
    if used > mostUsed then tightest, mostUsed = i, used end
  end
  local list = lists[tightest]
  if list then
    answer[2] = tightest
    answer[3] = list.max - list.total
    answer[4] = #list.entries > 0 and list.entries[1] + list.window - now or 0
  end
  return answer
end

local answers = {}
while arg <= #ARGV do
  local alike, mode, always, marked, charges = ARGV[arg], ARGV[arg + 1], tonumber(ARGV[arg + 2]), ARGV[arg + 3], tonumber(ARGV[arg + 4])
  local limits = {}
  for i = 1, 2 * charges do limits[i] = tonumber(ARGV[arg + 4 + i]) end
  arg = arg + 5 + 2 * charges
  for _ = 1, alike do
    local generation, revoked, paid, isKnown, rest = '', 0, charges, true, nil
    if always then
      generation = redis.call('GET', KEYS[key]) or ''
      revoked = redis.call('EXISTS', KEYS[key + 1])
      if revoked == 1 then paid = always end
      key = key + 2
    end
    if marked ~= '' then
      local mark, kept = ARGV[arg], redis.call('GET', KEYS[key]) or ''
      isKnown = string.sub(kept, 1, #mark) == mark
      rest = string.sub(kept, #mark + 1)
      key, arg = key + 1, arg + 1
    end
    local answer = isKnown and count(mode, limits, paid, generation, revoked) or { 2, 0, 0, 0, generation, revoked }
    if isKnown and rest then answer[7] = rest end
    answers[#answers + 1] = answer
    key = key + charges
  end
end
return answers
`;

/**
 * KEYS: counters. ARGV: for each the time under which one request was lent. What has left meanwhile, or was forgotten with its
 * counter, is not there to be taken back.
 */
export const GIVE_BACK = `
for i, key in ipairs(KEYS) do
  local at, kept = tonumber(ARGV[i]), redis.call('GET', key)
  local old, entries = kept and cmsgpack.unpack(kept) or {}, {}
  for j = 1, #old, 2 do
    local count = old[j] == at and old[j + 1] - 1 or old[j + 1]
    if count > 0 then
      entries[#entries + 1] = old[j]
      entries[#entries + 1] = count
    end
  end
  if kept then
    if #entries > 0 then redis.call('SET', key, cmsgpack.pack(entries), 'KEEPTTL') else redis.call('DEL', key) end
  end
end
return {}
`;

/** KEYS: a revocation. ARGV: for how many milliseconds. */
export const REVOKE = `return redis.call('SET', KEYS[1], '1', 'PX', ARGV[1])`;

/** KEYS: where the mark of a session's last token is. ARGV: the mark, and for how many milliseconds. */
export const MARK = `return redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])`;

/** KEYS: the generation of a bucket. ARGV: a name for one that has none, the version that it has at least; `anew` where it is to have just these. */
export const CLAIM = `
local name, version = string.match(redis.call('GET', KEYS[1]) or '', '^(.*)%.(%d+)$')
if not name or ARGV[3] == 'anew' then name, version = ARGV[1], '-1' end
if tonumber(version) < tonumber(ARGV[2]) then
  version = ARGV[2]
  redis.call('SET', KEYS[1], name .. '.' .. version)
end
return name .. '.' .. version
`;
