-- A pod has been made and will register once it can serve: unknown -> warming.
--
-- KEYS[1]  root
-- ARGV[1]  now
-- ARGV[2]  pod
-- ARGV[3]  term of whoever owns the pods
--
-- Result: 1, or 0 for a pod that is known, gone ones included; 'superseded' where a later term is known.

local pod = ARGV[2]
if superseded(ARGV[3]) then
  return 'superseded'
end
if state_of(pod) then
  return 0
end
redis.call('HSET', record_of(pod), 'address', '', 'executions', 0, 'registered', text(now))
move(pod, nil, 'warming', now)
see(pod)
return 1
