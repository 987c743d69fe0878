-- A pod can serve: unknown or warming -> idle.
--
-- KEYS[1]  root
-- ARGV[1]  now
-- ARGV[2]  pod
-- ARGV[3]  address
-- ARGV[4]  executions after which it is retired
-- ARGV[5]  age in microseconds at which it is to be replaced
-- ARGV[6]  1 when it is to serve no other tenant than its first, else 0
-- ARGV[7]  term of whoever owns the pods
--
-- Result: 1, or 0 for a pod that is known otherwise: neither a live pod's lease nor a gone pod's end is undone;
--         'superseded' where a later term is known.

local pod = ARGV[2]
if superseded(ARGV[7]) then
  return 'superseded'
end
local state = state_of(pod)
if state and state ~= 'warming' then
  return 0
end
redis.call('HSET', record_of(pod), 'address', ARGV[3], 'max_executions', ARGV[4],
  'executions', 0, 'registered', text(now), 'per_tenant', ARGV[6])
redis.call('ZADD', AGES, text(now + tonumber(ARGV[5])), pod)
serve(pod, state)
return 1
