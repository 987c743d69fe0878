-- Ends a lease: leased -> idle, or leased -> retiring for a pod that is dirty, worn out, asked to retire, or late.
--
-- KEYS[1]  root
-- ARGV[1]  now
-- ARGV[2]  pod
-- ARGV[3]  fence of the lease
-- ARGV[4]  1 for clean, 0 for dirty
-- ARGV[5]  1 where a program ran, 0 where none did: then the pod is as if it had not been leased
--
-- Result: 'idle', 'retired', or 'stale' when the lease was not the pod's any more.

local pod = ARGV[2]
local held, deadline = holds(pod, ARGV[3])
if not held then
  return 'stale'
end

local used = ARGV[5] == '1'

local function unfit()
  if deadline <= now then
    return 'LeaseExpired'
  end
  if ARGV[4] ~= '1' then
    return 'Dirty'
  end
  return redis.call('HGET', record_of(pod), 'reason') or (used and worn_out(pod))
end

local reason = unfit()
if reason then
  retire(pod, 'leased', reason)
else
  local record = redis.call('HMGET', record_of(pod), 'per_tenant', 'tenant')
  free(pod)
  if used and record[1] == '1' then
    redis.call('HSET', record_of(pod), 'bound', record[2])
  end
  serve(pod, 'leased')
end
if not used then
  redis.call('HINCRBY', record_of(pod), 'executions', -1)
end
return reason and 'retired' or 'idle'
