-- A pod has been made and will register once it can serve: unknown -> warming.
--
-- KEYS[1]  root
-- ARGV[1]  now
-- ARGV[2]  pod
-- ARGV[3]  term of the operator that makes it
--
-- Result: 1, or 0 for a pod that is known, gone ones included, and for an operator that leads no more.

local pod, term = ARGV[2], tonumber(ARGV[3])
if state_of(pod) or term < tonumber(redis.call('GET', TERM) or 0) then
  return 0
end
redis.call('SET', TERM, text(term))
redis.call('HSET', record_of(pod), 'address', '', 'executions', 0, 'registered', text(now))
move(pod, nil, 'warming', now)
see(pod)
return 1
