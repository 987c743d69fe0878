-- The pods that became idle last, which are leased next. Changes nothing.
--
-- KEYS[1]  root
-- ARGV[1]  now
-- ARGV[2]  pods, at most
--
-- Result: pod, address, pod, address, ...

local found = {}
for _, pod in ipairs(redis.call('ZREVRANGE', set_of('idle'), 0, tonumber(ARGV[2]) - 1)) do
  found[#found + 1] = pod
  found[#found + 1] = redis.call('HGET', record_of(pod), 'address') or ''
end
return found
