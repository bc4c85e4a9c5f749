/** What Redis does in one step for a fleet: the directory and the leases, as scripts. */
import { createHash } from "node:crypto"
import { remembered } from "../../internal/backplane/engine.ts"

/**
 * A script and its name at the server.
 *
 * Everything of a fleet has one prefix in braces, so that a cluster keeps it in one place:
 *
 * - `directory`: a hash. `=<key>` is `<node> <generation> <epoch> <number>`, and `<node> <epoch> <number>` of the newest login
 *   that wants it, where there is one. Beside the keys it has the epoch, the time at which that began, the server that counts,
 *   and the counters, so that the loss of one is the loss of all.
 * - `gone:<key>`: `<node> <epoch> <number>` of the newest login of a key that was given back, or whose node has lost its lease.
 *   It is kept for a hundred leases: a node that is cut off may have this login still, or an older one.
 * - `lease:<node>`: `<generation> <session> <leaving>`, for as long as the lease lasts. Another generation is another lease: what
 *   was held under an earlier one is free.
 * - `nodes`: who had a lease.
 */
export interface Script {
  readonly text: string
  readonly sha: string
}

export const script = (text: string): Script => ({ text, sha: createHash("sha1").update(text).digest("hex") })

const leaseOf = `
local function lease(of)
  local found = redis.call('GET', at .. 'lease:' .. of)
  if found then return string.match(found, '^(%d+) (%d+) (%d)$') end
end
`

const session = `
local at, epoch, node, session = KEYS[1], ARGV[1], ARGV[2], ARGV[3]
if redis.call('HGET', at .. 'directory', 'epoch') ~= epoch then return {'epoch'} end
${leaseOf}
local generation, owner = lease(node)
if owner ~= session then return {'lease'} end
local function holder(key)
  local found = redis.call('HGET', at .. 'directory', '=' .. key)
  if not found then return nil end
  local of, born, first, number, wants, second, rank =
    string.match(found, '^(%S+) (%d+) (%d+) (%d+) ?(%S*) ?(%d*) ?(%d*)$')
  if lease(of) == born then return of, first, number, born, wants, second, rank end
end
`

const giveBack = `
local function giveBack(field, found, millis)
  local of, token = string.match(found, '^(%S+) %d+ (%d+ %d+)')
  local newest = string.match(found, '^%S+ %d+ %d+ %d+ (%S+ %d+ %d+)$') or of .. ' ' .. token
  redis.call('HDEL', at .. 'directory', field)
  redis.call('SET', at .. 'gone:' .. string.sub(field, 2), newest, 'PX', string.format('%.0f', ${remembered} * tonumber(millis)))
end
`

/**
 * Gives the epoch, its age and a lease. A server with another `run_id` has been restarted, or is a copy that was behind: it
 * may have lost claims, whatever it has kept.
 *
 * `ARGV`: the greatest epoch seen so far, then the node and the milliseconds of its lease, where it wants one.
 */
export const join = script(`
local at, seen, node = KEYS[1], tonumber(ARGV[1]), ARGV[2]
${leaseOf}
local info = redis.pcall('INFO', 'server')
local run = type(info) == 'string' and string.match(info, 'run_id:(%x+)') or ''
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local known = redis.call('HMGET', at .. 'directory', 'epoch', 'began', 'run')
local epoch, began = tonumber(known[1] or ''), tonumber(known[2] or '')
if not epoch or not began or known[3] ~= run or epoch < seen then
  epoch = math.max(now, (epoch or 0) + 1, seen + 1)
  began = now
  redis.call('HSET', at .. 'directory', 'epoch', string.format('%.0f', epoch), 'began', string.format('%.0f', now),
    'run', run)
end
local session = '0'
if node then
  session = string.format('%.0f', redis.call('HINCRBY', at .. 'directory', 'joins', 1))
  local generation = lease(node) or session
  redis.call('SET', at .. 'lease:' .. node, generation .. ' ' .. session .. ' 0', 'PX', ARGV[3])
  redis.call('SADD', at .. 'nodes', node)
end
return {string.format('%.0f', epoch), string.format('%.0f', now - began), session}
`)

/** `ARGV`: whether the node leaves, as 1 or 0, and the milliseconds of its lease. Looks at some keys of ended leases as well. */
export const renew = script(`${session}
${giveBack}
redis.call('SET', at .. 'lease:' .. node, generation .. ' ' .. session .. ' ' .. ARGV[4], 'PX', ARGV[5])
redis.call('SADD', at .. 'nodes', node)
local generations = {}
local function isHeld(of, born)
  if generations[of] == nil then generations[of] = lease(of) or false end
  return generations[of] == born
end
local cursor = redis.call('HGET', at .. 'directory', 'swept') or '0'
local step = redis.call('HSCAN', at .. 'directory', cursor, 'MATCH', '=*', 'COUNT', 500)
for i = 1, #step[2], 2 do
  local found = step[2][i + 1]
  if not isHeld(string.match(found, '^(%S+) (%d+)')) then giveBack(step[2][i], found, ARGV[5]) end
end
redis.call('HSET', at .. 'directory', 'swept', step[1])
return {'ok'}
`)

export const nodes = script(`${session}
local members = {'ok'}
for _, of in ipairs(redis.call('SMEMBERS', at .. 'nodes')) do
  local found, _, leaving = lease(of)
  if found then
    members[#members + 1] = of
    members[#members + 1] = leaving
  else
    redis.call('SREM', at .. 'nodes', of)
  end
end
return members
`)

/**
 * `ARGV`: the key, twice the epoch and the number of a token or nothing: the claim's own one, and `over`; and 1 for one that does
 * not want a key that is held.
 */
export const claim = script(`${session}
local key, first, number = ARGV[4], ARGV[5], ARGV[6]
if first == '' then
  first = epoch
  number = string.format('%.0f', redis.call('HINCRBY', at .. 'directory', 'claims', 1))
end
local function isNewer(epoch1, number1, epoch2, number2)
  local e1, e2 = tonumber(epoch1), tonumber(epoch2)
  return e1 > e2 or (e1 == e2 and tonumber(number1) > tonumber(number2))
end
local function write(...)
  redis.call('HSET', at .. 'directory', '=' .. key, table.concat({...}, ' '))
end
local of, theirs, rank, born, wants, wantsEpoch, wantsNumber = holder(key)
if not of then
  if ARGV[5] ~= '' then
    local last = redis.call('HGET', at .. 'directory', '=' .. key)
    local was, e, n = string.match(last or '', '^(%S+) %d+ (%d+) (%d+)')
    if not was then was, e, n = string.match(redis.call('GET', at .. 'gone:' .. key) or '', '^(%S+) (%d+) (%d+)$') end
    if was and isNewer(e, n, first, number) then return {'taken', first, number, was, e, n} end
  end
  write(node, generation, first, number)
  return {'claimed', first, number}
end
if isNewer(theirs, rank, first, number) then return {'taken', first, number, of, theirs, rank} end
if of ~= node and not (theirs == ARGV[7] and rank == ARGV[8]) then
  if ARGV[9] ~= '1' and (wants == '' or isNewer(first, number, wantsEpoch, wantsNumber)) then
    write(of, born, theirs, rank, node, first, number)
  end
  return {'taken', first, number, of, theirs, rank}
end
if wants ~= '' and wants ~= node and isNewer(wantsEpoch, wantsNumber, first, number) then
  if of == node then return {'taken', first, number, wants, wantsEpoch, wantsNumber} end
  write(node, generation, first, number, wants, wantsEpoch, wantsNumber)
else
  write(node, generation, first, number)
end
return {'claimed', first, number}
`)

/** `ARGV`: the key, the epoch and the number of its claim, and the milliseconds of the node's lease. */
export const release = script(`${session}
${giveBack}
local field = '=' .. ARGV[4]
local found = redis.call('HGET', at .. 'directory', field)
local mine = table.concat({node, generation, ARGV[5], ARGV[6]}, ' ')
if found and string.sub(found .. ' ', 1, #mine + 1) == mine .. ' ' then giveBack(field, found, ARGV[7]) end
return {'ok'}
`)

/** `ARGV`: the key. */
export const find = script(`${session}
local of, theirs, rank = holder(ARGV[4])
if of then return {'ok', of, theirs, rank} end
return {'ok'}
`)

export const leave = script(`${session}
redis.call('DEL', at .. 'lease:' .. node)
redis.call('SREM', at .. 'nodes', node)
return {'ok'}
`)
