-- Moves the deadline of a lease that has not expired.
--
-- KEYS[1]  root
-- ARGV[1]  now
-- ARGV[2]  pod
-- ARGV[3]  fence of the lease
-- ARGV[4]  microseconds from now until it expires
--
-- Result: 1, or 0 when the lease expired or is not the pod's.

local pod = ARGV[2]
local held, deadline = holds(pod, ARGV[3])
if not held or deadline <= now then
  return 0
end
local later = text(now + tonumber(ARGV[4]))
redis.call('HSET', record_of(pod), 'deadline', later)
redis.call('ZADD', set_of('leased'), later, pod)
return 1
