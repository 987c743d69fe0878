-- Asks whether the pods are still this owner's, and does nothing to them.
--
-- KEYS[1]  root
-- ARGV[1]  now
-- ARGV[2]  term of whoever owns the pods
--
-- Result: 'superseded' where a later term is known.

return superseded(ARGV[2]) and 'superseded' or false
