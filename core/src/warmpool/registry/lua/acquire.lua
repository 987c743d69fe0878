-- Leases the pod that became idle last: idle -> leased; one that is bound to the tenant first. Its memory is still in the
-- processor's caches, and the others stay unused, so that a pool can tell which ones it does not need. Those that are
-- silent or worn out are retired on the way.
--
-- KEYS[1]  root
-- ARGV[1]  now
-- ARGV[2]  heartbeat in microseconds: a pod not seen for that long is silent
-- ARGV[3]  execution
-- ARGV[4]  tenant
-- ARGV[5]  gateway
-- ARGV[6]  microseconds until the lease expires
-- ARGV[7]  leases the tenant may hold at once
-- ARGV[8]  pods to look at in this call, so that a pool full of silent pods does not stall Redis
--
-- Result: {'leased', pod, address, fence, deadline}, {'empty'}, {'bound'} when only pods of other tenants are idle,
--         {'quota'}, or {'more'} when none of the pods looked at would do and others are left.

local heartbeat, tenant = tonumber(ARGV[2]), ARGV[4]

local function unfit(pod)
  local seen = tonumber(redis.call('ZSCORE', SEEN, pod) or 0)
  if now - seen >= heartbeat then
    return 'HeartbeatLost'
  end
  return worn_out(pod)
end

-- Grows even when Redis comes back empty: the clock is ahead of a number given before, as long as pools hand out
-- fewer than one lease a microsecond.
local function next_fence()
  local last = tonumber(redis.call('GET', FENCE) or 0)
  local fence = text(math.max(last + 1, now))
  redis.call('SET', FENCE, fence)
  return fence
end

local function lease(pod)
  local fence, deadline = next_fence(), now + tonumber(ARGV[6])
  local record = record_of(pod)
  redis.call('HINCRBY', TENANTS, tenant, 1)
  redis.call('HINCRBY', record, 'executions', 1)
  redis.call('HSET', record, 'execution', ARGV[3], 'tenant', tenant, 'gateway', ARGV[5], 'fence', fence,
    'deadline', text(deadline))
  move(pod, nil, 'leased', deadline)
  return {'leased', pod, redis.call('HGET', record, 'address'), fence, text(deadline)}
end

local function next_idle()
  local own = redis.call('ZPOPMAX', bound_to(tenant))[1]
  if own then
    redis.call('ZREM', BOUND, own)
    return own
  end
  return redis.call('ZPOPMAX', set_of('idle'))[1]
end

if tonumber(redis.call('HGET', TENANTS, tenant) or 0) >= tonumber(ARGV[7]) then
  return {'quota'}
end
for _ = 1, tonumber(ARGV[8]) do
  local pod = next_idle()
  if not pod then
    return {redis.call('ZCARD', BOUND) > 0 and 'bound' or 'empty'}
  end
  local reason = unfit(pod)
  if not reason then
    return lease(pod)
  end
  retire(pod, nil, reason)
end
return {'more'}
