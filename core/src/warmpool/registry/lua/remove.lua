-- The pod does not exist any more: any state -> gone. Frees its lease; wakes nobody.
-- The record's state outlives the pod for a while, so that a registration on its way cannot bring it back.
--
-- KEYS[1]  root
-- ARGV[1]  now
-- ARGV[2]  pod
-- ARGV[3]  seconds to remember that it is gone
-- ARGV[4]  term of whoever owns the pods
--
-- Result: nothing, or 'superseded' where a later term is known.

local pod = ARGV[2]
if superseded(ARGV[4]) then
  return 'superseded'
end
local record, state = record_of(pod), state_of(pod)
if state == 'leased' then
  free(pod)
end
if state and state ~= 'gone' then
  leave(pod, state)
end
redis.call('ZREM', SEEN, pod)
redis.call('ZREM', AGES, pod)
redis.call('DEL', record)
redis.call('HSET', record, 'state', 'gone')
redis.call('EXPIRE', record, ARGV[3])
