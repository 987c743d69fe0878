-- One execution of a tenant.
--
-- tenant, id
-- created_at  Unix seconds, as the id says; saves looking into the other days' partitions
--
-- Result: at most one row. JSON comes as text, so that it goes on to the caller to the byte.

SELECT
    id, extract(epoch FROM created_at)::double precision AS created_at, pool, queue_seconds, code, status,
    result::text, stdout, stderr, truncated, error::text, limits::text, usage::text, tool_calls::text
FROM executions
WHERE
    tenant = %(tenant)s AND id = %(id)s
    AND created_at BETWEEN to_timestamp(%(created_at)s - 1) AND to_timestamp(%(created_at)s + 1)
