-- Put before every script: the keys of a pool, its clock, and the moves of a pod from state to state.
--
-- KEYS[1]  root of the pool's keys, 'warmpool:{<pool>}'. The hash tag keeps every key below in one slot,
--          so a script may build them although it names the root only.
-- ARGV[1]  now in microseconds, or '' for Redis's own time, on which gateways with skewed clocks agree
--
-- <root>:pod:<id>  hash     the pod's record; of a gone pod its state only, for a while
-- <root>:warming   zset     score: announced
-- <root>:idle      zset     score: idle since
-- <root>:leased    zset     score: deadline of the lease
-- <root>:retiring  zset     score: retiring since
-- <root>:seen      zset     score: last seen alive; warming, idle and leased pods
-- <root>:ages      zset     score: when it is to be replaced for its age; idle and leased pods
-- <root>:tenants   hash     tenant -> leases it holds
-- <root>:fence     string   the last fencing number
-- <root>:wakeups   channel  a message whenever a pod becomes idle
-- <root>:changes   channel  a message for whoever owns the pods: one is to be replaced, or more callers wait
-- <root>:bound     zset     score: idle since; idle pods that serve one tenant only, and are not in <root>:idle
-- <root>:bound:<tenant>     the same of one tenant
-- <root>:term      string   the latest term of an operator; none owns the pods after one of a later term has spoken
-- <root>:demand    hash     gateway -> what it has counted, see demand.lua
--
-- Times are microseconds: under 2^53, so exact in Lua's doubles, but past what tostring() prints.

local root = KEYS[1]
local SEEN, AGES, TENANTS = root .. ':seen', root .. ':ages', root .. ':tenants'
local FENCE, TERM = root .. ':fence', root .. ':term'
local WAKEUPS, CHANGES, BOUND, DEMAND = root .. ':wakeups', root .. ':changes', root .. ':bound', root .. ':demand'

local function text(number)
  return string.format('%.0f', number)
end

local function clock()
  local time = redis.call('TIME')
  return tonumber(time[1]) * 1000000 + tonumber(time[2])
end

local now = tonumber(ARGV[1]) or clock()

-- Whether another has owned the pods since that term began: of two operators that believe to lead only the later is heard.
local function superseded(term)
  local known = tonumber(redis.call('GET', TERM) or 0)
  if tonumber(term) > known then
    redis.call('SET', TERM, text(tonumber(term)))
  end
  return tonumber(term) < known
end

local function set_of(state)
  return root .. ':' .. state
end

local function record_of(pod)
  return root .. ':pod:' .. pod
end

-- nil for a pod that the registry does not know.
local function state_of(pod)
  return redis.call('HGET', record_of(pod), 'state') or nil
end

local function bound_to(tenant)
  return BOUND .. ':' .. tenant
end

-- Takes the pod out of the set of its state.
local function leave(pod, state)
  if redis.call('ZREM', set_of(state), pod) == 0 and state == 'idle' then
    redis.call('ZREM', BOUND, pod)
    redis.call('ZREM', bound_to(redis.call('HGET', record_of(pod), 'bound') or ''), pod)
  end
end

local function move(pod, from, to, score)
  if from then
    leave(pod, from)
  end
  redis.call('ZADD', set_of(to), text(score), pod)
  redis.call('HSET', record_of(pod), 'state', to)
end

local function see(pod)
  redis.call('ZADD', SEEN, text(now), pod)
end

-- Stops waiting for the pod's heartbeat; the record keeps when it was last seen.
local function unsee(pod)
  local seen = redis.call('ZSCORE', SEEN, pod)
  if seen then
    redis.call('HSET', record_of(pod), 'seen', seen)
    redis.call('ZREM', SEEN, pod)
  end
end

-- Ends the lease of a leased pod and takes it off its tenant's count. It deletes before it writes: a Redis at its
-- memory limit refuses a script whose first write needs memory, and a release must pass even then.
local function free(pod)
  local tenant = redis.call('HGET', record_of(pod), 'tenant')
  redis.call('HDEL', record_of(pod), 'execution', 'tenant', 'gateway', 'fence', 'deadline')
  if tenant and redis.call('HINCRBY', TENANTS, tenant, -1) <= 0 then
    redis.call('HDEL', TENANTS, tenant)
  end
end

-- Idle for everyone, or for the tenant that it is bound to.
local function serve(pod, from)
  local tenant = redis.call('HGET', record_of(pod), 'bound')
  if tenant then
    leave(pod, from)
    redis.call('ZADD', BOUND, text(now), pod)
    redis.call('ZADD', bound_to(tenant), text(now), pod)
    redis.call('HSET', record_of(pod), 'state', 'idle')
  else
    move(pod, from, 'idle', now)
  end
  see(pod)
  redis.call('PUBLISH', WAKEUPS, pod)
end

-- The first reason given for a pod stands.
local function retire(pod, from, reason)
  if from == 'leased' then
    free(pod)
  end
  move(pod, from, 'retiring', now)
  unsee(pod)
  redis.call('ZREM', AGES, pod)
  redis.call('HSETNX', record_of(pod), 'reason', reason)
  redis.call('PUBLISH', CHANGES, pod)
end

-- Whether `fence` is still the pod's lease; an expired one is, until it is reaped. Returns also its deadline.
local function holds(pod, fence)
  local record = redis.call('HMGET', record_of(pod), 'state', 'fence', 'deadline')
  return record[1] == 'leased' and record[2] == fence, tonumber(record[3])
end

-- Why the pod may serve no further execution, or nil.
local function worn_out(pod)
  local record = redis.call('HMGET', record_of(pod), 'executions', 'max_executions')
  local most = tonumber(record[2])
  if not most then
    return 'RecordLost'
  end
  if tonumber(record[1]) >= most then
    return 'MaxExecutions'
  end
end
