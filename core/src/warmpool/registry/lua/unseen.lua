-- The idle pods that have not been seen alive for a while, those seen last first: a pod that never answers sinks to the
-- end and keeps nobody from the others. Changes nothing.
--
-- KEYS[1]  root
-- ARGV[1]  now
-- ARGV[2]  microseconds
-- ARGV[3]  pods to look at in this call, those in other states included
--
-- Result: pod, address, pod, address, ...

local found = {}
for _, pod in ipairs(redis.call('ZREVRANGEBYSCORE', SEEN, text(now - tonumber(ARGV[2])), '-inf', 'LIMIT', 0, ARGV[3])) do
  local record = redis.call('HMGET', record_of(pod), 'state', 'address')
  if record[1] == 'idle' then
    found[#found + 1] = pod
    found[#found + 1] = record[2]
  end
end
return found
