-- The pods that have reached the age at which they are to be replaced, the oldest first. Changes nothing: whoever owns the
-- pods replaces them a few at a time, for those of a pool were made together.
--
-- KEYS[1]  root
-- ARGV[1]  now
-- ARGV[2]  pods, at most
--
-- Result: pods.

return redis.call('ZRANGEBYSCORE', AGES, '-inf', text(now), 'LIMIT', 0, ARGV[2])
