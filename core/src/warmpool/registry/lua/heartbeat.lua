-- These pods are alive. A retiring pod is known, but nobody waits for its heartbeat any more.
--
-- KEYS[1]   root
-- ARGV[1]   now
-- ARGV[2..] pods
--
-- Result: those that are unknown or gone.

local unknown = {}
for i = 2, #ARGV do
  local pod = ARGV[i]
  local state = state_of(pod)
  if not state or state == 'gone' then
    unknown[#unknown + 1] = pod
  elseif state ~= 'retiring' then
    see(pod)
  end
end
return unknown
