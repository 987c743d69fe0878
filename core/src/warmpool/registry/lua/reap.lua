-- Retires the pods whose lease expired and those that fell silent. A leased pod that fell silent is marked only:
-- its program may still run, and its lease ends in time.
--
-- KEYS[1]  root
-- ARGV[1]  now
-- ARGV[2]  heartbeat in microseconds
-- ARGV[3]  pods of each kind to look at in this call, so that a large failure does not stall Redis
--
-- Result: {1 when others may be left, else 0; the pods retired}.

local most, retired = tonumber(ARGV[3]), {}

local function due(key, time)
  return redis.call('ZRANGEBYSCORE', key, '-inf', text(time), 'LIMIT', 0, most)
end

local expired = due(set_of('leased'), now)
for _, pod in ipairs(expired) do
  retire(pod, 'leased', 'LeaseExpired')
  retired[#retired + 1] = pod
end

local silent = due(SEEN, now - tonumber(ARGV[2]))
for _, pod in ipairs(silent) do
  local state = state_of(pod)
  if state == 'leased' then
    redis.call('HSETNX', record_of(pod), 'reason', 'HeartbeatLost')
    unsee(pod)
  else
    retire(pod, state, 'HeartbeatLost')
    retired[#retired + 1] = pod
  end
end

return {(#expired == most or #silent == most) and 1 or 0, retired}
