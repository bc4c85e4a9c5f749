/** What a history in Redis knows, and the scripts that are its steps. */
import { script } from "./scripts.ts"

/**
 * Each history has two keys in one slot, whose names begin with `KEYS[1]`:
 *
 * - `log`, a hash: the epoch, the server that counts (`run`), the offsets before the oldest and after the newest message, and how
 *   many bytes are kept.
 * - `messages`, a stream: the message `offset` has the id `<offset>-0`; `m` is the message, `t` the time of the server.
 *
 * Another server, or one that has lost one of the keys, begins another epoch: `ARGV[1]` is a name for that.
 */
const head = `
local at = KEYS[1]
local log, messages = at .. 'log', at .. 'messages'
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local known = redis.call('HMGET', log, 'epoch', 'oldest', 'newest', 'bytes')
local epoch, oldest, newest, bytes = known[1], tonumber(known[2] or ''), tonumber(known[3] or ''), tonumber(known[4] or '')
local function id(number) return string.format('%.0f', number) end
local function keep()
  redis.call('HSET', log, 'epoch', epoch, 'oldest', id(oldest), 'newest', id(newest), 'bytes', id(bytes))
end
if not epoch or not oldest or not newest or not bytes or redis.call('XLEN', messages) ~= newest - oldest then
  redis.call('DEL', messages)
  epoch, oldest, newest, bytes = ARGV[1], 0, 0, 0
  keep()
  redis.call('PEXPIRE', log, 86400000)
end
local function trim(count, most, age)
  while newest > oldest do
    local some = redis.call('XRANGE', messages, '-', '+', 'COUNT', newest - oldest > count and 128 or 16)
    for _, entry in ipairs(some) do
      local tooOld = age and now - tonumber(entry[2][4]) >= age
      if newest - oldest <= count and bytes <= most and not tooOld then return end
      oldest = oldest + 1
      bytes = bytes - #entry[2][2]
      redis.call('XDEL', messages, entry[1])
    end
  end
end
`

/** Called on each new connection: a server that was restarted may have lost what it had answered. */
export const open = script(`${head}
local info = redis.pcall('INFO', 'server')
local run = type(info) == 'string' and string.match(info, 'run_id:(%x+)') or ''
if redis.call('HGET', log, 'run') ~= run then
  if redis.call('HEXISTS', log, 'run') == 1 then epoch = ARGV[1] end
  keep()
  redis.call('HSET', log, 'run', run)
end
return {epoch, id(newest)}
`)

/** `ARGV`: the bounds, as a count, bytes and milliseconds or nothing; how long an idle history is kept, or nothing; the message. */
export const append = script(`${head}
newest = newest + 1
bytes = bytes + #ARGV[6]
redis.call('XADD', messages, id(newest) .. '-0', 'm', ARGV[6], 't', id(now))
trim(tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4]))
keep()
if ARGV[5] ~= '' then
  redis.call('PEXPIRE', log, ARGV[5])
  redis.call('PEXPIRE', messages, ARGV[5])
else
  redis.call('PERSIST', log)
end
redis.call('PUBLISH', at .. 'live', epoch .. ' ' .. id(newest) .. ' ' .. ARGV[6])
return {epoch, id(newest)}
`)

/** `ARGV`: the bounds, then a position as its epoch and offset, and how many messages at most. */
export const since = script(`${head}
trim(tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4]))
keep()
local answer = {epoch, id(oldest), id(newest)}
local offset = tonumber(ARGV[6])
if ARGV[5] == epoch and offset >= oldest and offset < newest and ARGV[7] ~= '0' then
  for _, entry in ipairs(redis.call('XRANGE', messages, id(offset + 1) .. '-0', '+', 'COUNT', ARGV[7])) do
    answer[#answer + 1] = entry[2][2]
  end
end
return answer
`)
