-- Ends a lease: leased -> idle, or leased -> retiring for a pod that is dirty, worn out, asked to retire, or late.
--
-- KEYS[1]  root
-- ARGV[1]  now
-- ARGV[2]  pod
-- ARGV[3]  fence of the lease
-- ARGV[4]  1 for clean, 0 for dirty
--
-- Result: 'idle', 'retired', or 'stale' when the lease was not the pod's any more.

local pod = ARGV[2]
local held, deadline = holds(pod, ARGV[3])
if not held then
  return 'stale'
end

local function unfit()
  if deadline <= now then
    return 'LeaseExpired'
  end
  if ARGV[4] ~= '1' then
    return 'Dirty'
  end
  return redis.call('HGET', record_of(pod), 'reason') or worn_out(pod)
end

local reason = unfit()
if reason then
  retire(pod, 'leased', reason)
  return 'retired'
end
local record = redis.call('HMGET', record_of(pod), 'per_tenant', 'tenant')
free(pod)
if record[1] == '1' then
  redis.call('HSET', record_of(pod), 'bound', record[2])
end
serve(pod, 'leased')
return 'idle'
