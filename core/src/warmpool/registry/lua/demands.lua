-- What the gateways have counted. Those that have said nothing for long are forgotten.
--
-- KEYS[1]  root
-- ARGV[1]  now
-- ARGV[2]  microseconds of silence after which a gateway is forgotten
--
-- Result: now, gateway, 'said_at arrivals releases held waiting', gateway, ...

local found, all = {text(now)}, redis.call('HGETALL', DEMAND)
for i = 1, #all, 2 do
  if now - tonumber(string.match(all[i + 1], '^%d+')) < tonumber(ARGV[2]) then
    found[#found + 1] = all[i]
    found[#found + 1] = all[i + 1]
  else
    redis.call('HDEL', DEMAND, all[i])
  end
end
return found
