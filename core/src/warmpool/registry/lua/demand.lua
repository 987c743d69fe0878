-- Records what a gateway has counted, and tells whoever owns the pods when more callers wait than before.
--
-- KEYS[1]  root
-- ARGV[1]  now
-- ARGV[2]  gateway
-- ARGV[3]  callers that came, since it started
-- ARGV[4]  leases that ended, since it started
-- ARGV[5]  microseconds that those leases were held
-- ARGV[6]  callers that wait now
--
-- Result: nothing.

local gateway, waiting = ARGV[2], tonumber(ARGV[6])
local before = redis.call('HGET', DEMAND, gateway)
local waited = before and tonumber(string.match(before, '(%d+)$')) or 0
redis.call('HSET', DEMAND, gateway, table.concat({text(now), ARGV[3], ARGV[4], ARGV[5], ARGV[6]}, ' '))
if waiting > waited then
  redis.call('PUBLISH', CHANGES, '')
end
