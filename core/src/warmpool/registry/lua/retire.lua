-- The pod is to be replaced: unknown, warming or idle -> retiring; a leased one is marked and retires at its release.
-- An unknown pod is recorded, so that a late registration cannot make it idle and whoever deletes pods finds it.
--
-- KEYS[1]  root
-- ARGV[1]  now
-- ARGV[2]  pod
-- ARGV[3]  reason
-- ARGV[4]  term of whoever owns the pods
--
-- Result: 1, or 0 for a pod that is marked, retiring or gone already; 'superseded' where a later term is known.

local pod, reason = ARGV[2], ARGV[3]
if superseded(ARGV[4]) then
  return 'superseded'
end
local state = state_of(pod)
if state == 'retiring' or state == 'gone' then
  return 0
end
if state == 'leased' then
  return redis.call('HSETNX', record_of(pod), 'reason', reason)
end
if not state then
  redis.call('HSET', record_of(pod), 'address', '', 'executions', 0, 'registered', text(now))
end
retire(pod, state, reason)
return 1
