-- Begins a new term: whoever has owned the pods until now is heard no more.
--
-- KEYS[1]  root
-- ARGV[1]  now
--
-- Result: the term.

local term = text(math.max(tonumber(redis.call('GET', TERM) or 0) + 1, now))
redis.call('SET', TERM, term)
return term
